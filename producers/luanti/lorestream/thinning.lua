-- Removes dropped lines from the files of segments, a part in each call, because a whole file takes longer than a
-- server step should. The remaining lines are copied into a file of the pool. Only when the copy is complete, the
-- old file is emptied or deleted. After a kill, the old file is still complete, and of two files with the same
-- place in the queue, the one with fewer lines is the unfinished copy.

-- segment.lua and ids.lua, passed in by init.lua.
local Segment, Ids = ...

-- Bytes that one call reads. Strings cost more time than lines, because each new string may start the garbage
-- collector: a block is one string, and so is each run of lines that are kept.
local BLOCK_BYTES = 8 * 1024

local NEWLINE, COMMA = ("\n,"):byte(1, 2)

local Copy = {}
Copy.__index = Copy

-- free: {path, file, used} from the pool, the target of the copy. Returns nil if the lines are not at the
-- expected place in the file, or if the copy cannot be written.
function Copy.new(segment, free)
	local source = Segment.open_lines(segment)
	if not source or not Segment.mark(free, segment.place or segment.number) then
		if source then
			source:close()
		end
		return nil
	end
	-- For each type: how many lines this copy removes, and how many of those are still to be found.
	local leaving, left, endings = {}, {}, {}
	for kind, count in pairs(segment.gone) do
		leaving[kind], left[kind], endings[kind] = count, count, Segment.ending_of(kind)
	end
	return setmetatable({segment = segment, free = free, source = source, leaving = leaving, left = left,
		endings = endings, sought = segment.lost, met = 0, kept = 0, bytes = 0,
		ids = Ids.new()}, Copy)
end

-- Whether the line that ends at stop is removed.
function Copy:leaves(block, stop)
	for kind, count in pairs(self.left) do
		if count > 0 and Segment.is_of_type(block, stop, self.endings[kind]) then
			self.left[kind], self.met = count - 1, self.met + 1
			return true
		end
	end
	return false
end

function Copy:write(block, first, last)
	self.bytes = self.bytes + last - first + 1
	return self.free.file:write(first == 1 and last == #block and block or block:sub(first, last))
end

-- Writes the lines of a block that are kept; adjacent lines, from run on, as one string. Returns true on success.
function Copy:filter(block)
	local start, run, written = 1, 1, true
	while start <= #block do
		local stop = block:find("\n", start, true)
		if not stop or block:byte(stop - 1) ~= COMMA then
			return nil
		elseif self:leaves(block, stop) then
			self.ids:add(block, start, stop)
			written = written and (run == start or self:write(block, run, start - 1))
			run = stop + 1
		else
			self.kept = self.kept + 1
		end
		start = stop + 1
	end
	written = written and (run == start or self:write(block, run, start - 1))
	return written and self.free.file:flush()
end

-- Copies the next block. Returns "more", "done", or nil on failure.
function Copy:step()
	local block = self.source:read(BLOCK_BYTES) or ""
	local more = #block == BLOCK_BYTES
	if more and block:byte(-1) ~= NEWLINE then
		block = block .. (self.source:read("*l") or "") .. "\n"
	end
	if not self:filter(block) then
		return nil
	elseif more then
		return "more"
	end
	local lines = self.segment.count + self.segment.lost
	return self.met == self.sought and self.kept + self.met == lines and "done" or nil
end

-- Switches the segment to the copy. Returns its old file, whose lines are then done, for the pool.
function Copy:finish()
	local segment, free = self.segment, self.free
	local old = {path = segment.path, used = segment.used,
		losses = {count = self.met, types = self.leaving, ids = self.ids}}
	Segment.close(segment)
	Segment.close(free)
	self.source:close()
	segment.path, segment.used, segment.bytes = free.path, free.used, self.bytes
	segment.lines, segment.lost = nil, segment.lost - self.met
	for kind, count in pairs(segment.gone) do
		-- Lines dropped since the copy began are left for the next copy.
		local since = count - (self.leaving[kind] or 0)
		segment.gone[kind] = since > 0 and since or nil
	end
	if segment.lost == 0 then
		segment.gone = nil
	end
	return old
end

-- The segments waiting to be thinned, and the work on them.
local Thinning = {}
Thinning.__index = Thinning

function Thinning.new(pool)
	return setmetatable({pool = pool, worn = {}}, Thinning)
end

function Thinning:add(segment)
	if not segment.waits then
		segment.waits = true
		self.worn[#self.worn + 1] = segment
	end
end

-- The number of waiting segments.
function Thinning:backlog()
	return #self.worn
end

-- Removes the dropped lines of a segment that is only in memory.
function Thinning:thin(segment)
	local types, ids, dropped = segment.gone, Ids.new(), Segment.thin(segment)
	for _, line in ipairs(dropped) do
		ids:add(line, 1, #line)
	end
	self.pool.on_dropped({count = #dropped, types = types, ids = ids})
end

-- Does one part of the work on this segment; nothing while the pool has no file for the copy. Returns true when
-- the work is complete.
function Thinning:work_on(segment)
	if not segment.gone or segment.stuck then
		return true
	elseif not segment.saved then
		self:thin(segment)
		return true
	elseif not segment.copy then
		if self.pool:has_free() then
			local free = self.pool:take()
			segment.copy = Copy.new(segment, free)
			if not segment.copy then
				self.pool:give(free, free.used)
				segment.stuck = true
			end
		end
		return segment.stuck == true
	end
	local state = segment.copy:step()
	if state == "done" then
		-- Until the old file is emptied, a kill leaves the segment in both files.
		segment.former = segment.copy:finish()
		self.pool:retire(segment.former)
		segment.copy = nil
		return not segment.gone
	elseif not state then
		-- The segment is sent without the dropped lines, but they stay in its file.
		self:stop(segment)
		segment.stuck = true
	end
	return segment.stuck == true
end

-- Does one part of the work on the segment that has waited longest. Returns whether there was any work.
function Thinning:work()
	local segment = self.worn[1]
	if not segment then
		return false
	elseif segment.removed or self:work_on(segment) then
		segment.waits = nil
		table.remove(self.worn, 1)
	end
	return true
end

-- Abandons an incomplete copy.
function Thinning:stop(segment)
	local copy = segment.copy
	if copy then
		copy.source:close()
		self.pool:give(copy.free, copy.free.used + copy.bytes)
		segment.copy = nil
	end
end

return Thinning
