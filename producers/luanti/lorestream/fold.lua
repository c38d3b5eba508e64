-- Joins repeated events into one: the same agent, type, subject and map block within some seconds.

local Fold = {}
Fold.__index = Fold

local BLOCK = 16
-- With more open folds than this, the oldest is closed early.
local MAX_OPEN = 1000

-- interval_s: seconds from the first event of a fold until it is closed. close(event) is called with the joined event.
function Fold.new(interval_s, close)
	return setmetatable({interval_us = interval_s * 1e6, close = close, open = {}, order = {}, head = 1, tail = 0,
		count = 0}, Fold)
end

local function block_of(pos)
	if not pos then
		return ""
	end
	local floor = math.floor
	return floor(pos.x / BLOCK) .. "," .. floor(pos.y / BLOCK) .. "," .. floor(pos.z / BLOCK)
end

-- Adds an event. event.data[sum_key] is the sum over the fold; the position is that of the first event, the time that
-- of the last.
function Fold:add(event, subject, sum_key, amount, now_us)
	local key = event.agent_id .. "|" .. event.type .. "|" .. subject .. "|" .. block_of(event.pos)
	local entry = self.open[key]
	if entry then
		local data = entry.event.data
		data[sum_key] = data[sum_key] + amount
		entry.event.time, entry.event.tick = event.time, event.tick
		return
	end
	event.data[sum_key] = amount
	entry = {key = key, event = event, due_us = now_us + self.interval_us}
	self.open[key] = entry
	self.tail = self.tail + 1
	self.order[self.tail] = entry
	self.count = self.count + 1
	if self.interval_us <= 0 or self.count > MAX_OPEN then
		self:close_first()
	end
end

function Fold:close_entry(entry)
	self.open[entry.key] = nil
	entry.closed = true
	self.count = self.count - 1
	self.close(entry.event)
end

function Fold:close_first()
	while self.head <= self.tail do
		local entry = self.order[self.head]
		self.order[self.head] = nil
		self.head = self.head + 1
		if not entry.closed then
			self:close_entry(entry)
			return
		end
	end
end

-- Closes folds that are due, one after another, while more() returns true (there is time left).
function Fold:step(now_us, more)
	while self.head <= self.tail do
		local entry = self.order[self.head]
		if not entry.closed and (entry.due_us > now_us or not more()) then
			return
		end
		self.order[self.head] = nil
		self.head = self.head + 1
		if not entry.closed then
			self:close_entry(entry)
		end
	end
end

-- Closes the folds of one agent, the oldest first: before an event that must come after them, such as a death.
function Fold:close_agent(agent_id)
	for i = self.head, self.tail do
		local entry = self.order[i]
		if not entry.closed and entry.event.agent_id == agent_id then
			self:close_entry(entry)
		end
	end
end

function Fold:close_all()
	self:step(math.huge, function() return true end)
end

return Fold
