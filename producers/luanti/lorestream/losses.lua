-- Events that were lost: how many, why, and their ids. Each loss is one line of JSON in a file in the world's folder,
-- written before the events leave the spool, so that a killed server still knows its losses at its next start.
--
-- A mark is a line too. After {"mark":"reported"} the gateway knows the events dropped before it; after
-- {"mark":"told"} an admin does. What comes before a mark is not counted again at the next start.

local Losses = {}
Losses.__index = Losses

-- A larger file is renamed, in place of the one before it, and a new one begun.
local MAX_BYTES = 1024 * 1024
-- With more reasons than this, further ones are counted as one.
local MAX_REASONS = 16
local FULL = "dropped because the spool was full"

-- options: path (file), Ids (class), type_of(line), write_json, parse_json, time() in seconds, say(level, kind, text)
-- (limited.lua).
function Losses.new(options)
	local self = setmetatable({}, Losses)
	for key, value in pairs(options) do
		self[key] = value
	end
	-- count and reasons: since the start, and what no admin was told before it. dropped: not reported to the gateway.
	self.count, self.reasons, self.reason_count, self.told = 0, {}, 0, 0
	self.full = 0
	self:forget_dropped()
	return self
end

function Losses:forget_dropped()
	self.dropped = {count = 0, types = {}}
end

function Losses:append(entry)
	local line = self.write_json(entry)
	local file = line and io.open(self.path, "ab")
	if not file then
		return
	end
	file:write((line:gsub("\n$", "")), "\n")
	local size = file:seek("end")
	file:close()
	if size > MAX_BYTES then
		os.remove(self.path .. ".old")
		os.rename(self.path, self.path .. ".old")
		if self.dropped.count > 0 then
			self:append({why = FULL, full = true, count = self.dropped.count, types = self.dropped.types})
		end
	end
end

function Losses:add_reason(why, count)
	if not self.reasons[why] then
		if self.reason_count >= MAX_REASONS then
			why = "other reasons"
		end
		self.reason_count = self.reason_count + (self.reasons[why] and 0 or 1)
	end
	self.reasons[why] = (self.reasons[why] or 0) + count
	self.count = self.count + count
end

function Losses:add_dropped(count, types)
	self.full = self.full + count
	self.dropped.count = self.dropped.count + count
	for kind, number in pairs(types) do
		self.dropped.types[kind] = (self.dropped.types[kind] or 0) + number
	end
end

function Losses:record(why, losses, full)
	self:add_reason(why, losses.count)
	if full then
		self:add_dropped(losses.count, losses.types)
	end
	self:append({why = why, count = losses.count, types = next(losses.types) and losses.types or nil,
		ids = losses.ids:ranges(), full = full, time = self.time()})
	self.say("warning", why, ("%d events were lost, %s; their ids are in %s"):format(losses.count, why, self.path))
end

-- Records events that are given up. why completes "events were lost, …".
function Losses:add(why, lines)
	local ids, types = self.Ids.new(), {}
	for _, line in ipairs(lines) do
		local kind = self.type_of(line)
		ids:add(line, 1, #line)
		types[kind] = (types[kind] or 0) + 1
	end
	self:record(why, {count = #lines, types = types, ids = ids})
end

-- Records events that a full spool dropped: {count, types (number by type), ids (of ids.lua: those that could be
-- read)}.
function Losses:add_full(losses)
	self:record(FULL, losses, true)
end

-- The dropped events that were not reported to the gateway, {count, types}; nil if there are none.
function Losses:unreported()
	return self.dropped.count > 0 and self.dropped or nil
end

-- The report is in the spool.
function Losses:reported()
	self:forget_dropped()
	self:append({mark = "reported"})
end

-- Why events were lost, with the number for each reason.
function Losses:reasons_text()
	local parts = {}
	for why, count in pairs(self.reasons) do
		parts[#parts + 1] = ("%d %s"):format(count, why)
	end
	table.sort(parts)
	return table.concat(parts, "; ")
end

-- An admin was told of all losses.
function Losses:mark_told()
	if self.told ~= self.count then
		self.told = self.count
		self:append({mark = "told"})
	end
end

local function number_of(value)
	return type(value) == "number" and value >= 0 and value < math.huge and math.floor(value) or 0
end

function Losses:restore(entry)
	if entry.mark == "reported" then
		self.full = self.full - self.dropped.count
		self:forget_dropped()
	elseif entry.mark == "told" then
		self.count, self.reasons, self.reason_count = 0, {}, 0
	elseif type(entry.why) == "string" then
		self:add_reason(entry.why, number_of(entry.count))
		if entry.full == true then
			local types = {}
			for kind, count in pairs(type(entry.types) == "table" and entry.types or {}) do
				types[tostring(kind)] = number_of(count)
			end
			self:add_dropped(number_of(entry.count), types)
		end
	end
end

-- Reads the file of earlier runs.
function Losses:load()
	local file = io.open(self.path, "rb")
	if not file then
		return
	end
	for line in file:lines() do
		-- The last line may be incomplete.
		local ok, entry = pcall(self.parse_json, line, nil, true)
		if ok and type(entry) == "table" then
			self:restore(entry)
		end
	end
	file:close()
end

return Losses
