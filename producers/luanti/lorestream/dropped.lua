-- Reads the ids of the dropped lines in a file of the spool, a part in each call, because a whole file takes longer
-- than a server step should.

-- segment.lua and ids.lua, passed in by init.lua.
local Segment, Ids = ...

local Dropped = {}
Dropped.__index = Dropped

-- Bytes that one call reads.
local BLOCK_BYTES = 8 * 1024

local function copy_of(counts)
	local copy = {}
	for key, count in pairs(counts) do
		copy[key] = count
	end
	return copy
end

-- segment: one with dropped lines in its file. Later changes of it have no effect.
function Dropped.new(segment)
	local endings = {}
	for kind in pairs(segment.gone) do
		endings[kind] = Segment.ending_of(kind)
	end
	local left = copy_of(segment.gone)
	return setmetatable({path = segment.path, bytes = segment.bytes, whole = segment.count == 0, left = left,
		endings = endings, losses = {count = segment.lost, types = copy_of(left), ids = Ids.new()}}, Dropped)
end

-- Whether the line that ends at stop was dropped.
function Dropped:has(block, stop)
	if self.whole then
		return true
	end
	for kind, count in pairs(self.left) do
		if count > 0 and Segment.is_of_type(block, stop, self.endings[kind]) then
			self.left[kind] = count - 1
			return true
		end
	end
	return false
end

-- Reads the next part. Returns true when all is read, or cannot be read.
function Dropped:step()
	if not self.source then
		self.source = Segment.open_lines(self)
	end
	local block = self.source and self.source:read(BLOCK_BYTES)
	if not block then
		Segment.close({file = self.source})
		return true
	end
	if block:byte(-1) ~= 10 then
		block = block .. (self.source:read("*l") or "") .. "\n"
	end
	local start = 1
	while start <= #block do
		local stop = block:find("\n", start, true)
		if self:has(block, stop) then
			self.losses.ids:add(block, start, stop)
		end
		start = stop + 1
	end
	return false
end

return Dropped
