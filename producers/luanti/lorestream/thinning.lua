-- Takes the dropped lines out of the files of segments: a few in each call, for all of one file takes longer than a
-- server step should. What is kept is copied into a file of the pool; only when all of it is there is the old file
-- emptied or deleted. After a kill the old file therefore still holds everything, and the copy of the same place
-- in the queue is the one with fewer lines.

local Segment = ...

-- What one call reads. What costs time is less the lines than the strings that are made of them, for each may be the
-- moment of the garbage collector: a block is one, and so is each run of lines that are kept.
local BLOCK_BYTES = 8 * 1024

local NEWLINE, COMMA = ("\n,"):byte(1, 2)

local Copy = {}
Copy.__index = Copy

-- free: {path, file, used}, which the segment takes over. Returns nil when the lines are not where they should be, or
-- the copy cannot be written.
function Copy.new(segment, free)
	local source = Segment.open_lines(segment)
	if not source or not Segment.mark(free, segment.place or segment.number) then
		if source then
			source:close()
		end
		return nil
	end
	-- Of each type what leaves with this copy, and what of it is still to be met.
	local leaving, left, endings = {}, {}, {}
	for kind, count in pairs(segment.gone) do
		leaving[kind], left[kind], endings[kind] = count, count, Segment.ending_of(kind)
	end
	return setmetatable({segment = segment, free = free, source = source, leaving = leaving, left = left,
		endings = endings, sought = segment.lost, met = 0, kept = 0, bytes = 0}, Copy)
end

-- Whether the line that ends there leaves.
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

-- Writes the lines of this block that stay; those that follow each other as one, from run on. True when it could.
function Copy:filter(block)
	local start, run, written = 1, 1, true
	while start <= #block do
		local stop = block:find("\n", start, true)
		if not stop or block:byte(stop - 1) ~= COMMA then
			return nil
		elseif self:leaves(block, stop) then
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

-- Copies on. Returns "more", "done", or nil when that failed.
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

-- The segment moves into the copy. Returns the path and the use of the file that it had, whose lines are then done.
function Copy:finish()
	local segment, free = self.segment, self.free
	local old, used = segment.path, segment.used
	Segment.close(segment)
	Segment.close(free)
	self.source:close()
	segment.path, segment.used, segment.bytes = free.path, free.used, self.bytes
	segment.lines, segment.lost = nil, segment.lost - self.met
	for kind, count in pairs(segment.gone) do
		-- What was dropped since stays for the next time.
		local since = count - (self.leaving[kind] or 0)
		segment.gone[kind] = since > 0 and since or nil
	end
	if segment.lost == 0 then
		segment.gone = nil
	end
	return old, used
end

-- The segments that wait to be thinned, and the work on them.
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

-- How many segments wait.
function Thinning:backlog()
	return #self.worn
end

-- One part of the work on this segment; none while the pool has no file for the copy. Returns true when nothing is
-- left to do.
function Thinning:work_on(segment)
	if not segment.gone or segment.stuck then
		return true
	elseif not segment.saved then
		Segment.thin(segment)
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
		-- Until that is over, a kill finds the segment in both files.
		segment.former = self.pool:retire(segment.copy:finish())
		segment.copy = nil
		return not segment.gone
	elseif not state then
		-- It is sent without the dropped lines, but its file keeps them.
		self:stop(segment)
		segment.stuck = true
	end
	return segment.stuck == true
end

-- One part of the work on the segment that has waited longest. Returns whether there was any.
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

-- Gives up a copy that is not whole.
function Thinning:stop(segment)
	local copy = segment.copy
	if copy then
		copy.source:close()
		self.pool:give(copy.free, copy.free.used + copy.bytes)
		segment.copy = nil
	end
end

return Thinning
