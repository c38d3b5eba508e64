-- Questions that are open, and answers that are still valid, by their key. A write of an agent makes what is known
-- about it invalid, including the answers that are still to come.

local Known = {}
Known.__index = Known

-- ttl_us: how long an answer is valid, in microseconds.
function Known.new(ttl_us)
	return setmetatable({ttl_us = ttl_us, entries = {}, of_agent = {}, kept = {}, first = 1, last = 0}, Known)
end

-- Adds a question without an answer. entry: {key, agents}; without a key, nothing is remembered.
function Known:open(entry)
	if not entry.key then
		return
	end
	self.entries[entry.key] = entry
	for _, agent_id in ipairs(entry.agents) do
		local of_agent = self.of_agent[agent_id]
		if not of_agent then
			of_agent = {}
			self.of_agent[agent_id] = of_agent
		end
		of_agent[entry.key] = entry
	end
end

-- The entry of an equal question that is open, or whose answer is valid.
function Known:find(key)
	return key and self.entries[key]
end

-- Keeps the entry, whose answer has come, for as long as it is valid.
function Known:keep(entry, now_us)
	if not entry.key or self.entries[entry.key] ~= entry then
		return
	end
	entry.until_us = now_us + self.ttl_us
	self.last = self.last + 1
	self.kept[self.last] = entry
end

function Known:remove(entry)
	if not entry.key or self.entries[entry.key] ~= entry then
		return
	end
	self.entries[entry.key] = nil
	for _, agent_id in ipairs(entry.agents) do
		local of_agent = self.of_agent[agent_id]
		if of_agent then
			of_agent[entry.key] = nil
			if next(of_agent) == nil then
				self.of_agent[agent_id] = nil
			end
		end
	end
end

-- Removes the answers whose time is over: the oldest are first.
function Known:expire(now_us)
	while self.first <= self.last and now_us >= self.kept[self.first].until_us do
		self:remove(self.kept[self.first])
		self.kept[self.first] = nil
		self.first = self.first + 1
	end
end

-- Forgets what is known about an agent, after a write of it.
function Known:forget(agent_id)
	local of_agent = self.of_agent[agent_id]
	if of_agent then
		for _, entry in pairs(of_agent) do
			self:remove(entry)
		end
	end
end

return Known
