-- Takes the dropped lines out of the file of one segment: a few in each call, for all of it takes longer than a server
-- step should. What is kept is copied into a file that was made before; only when all of it is there is the old file
-- emptied or deleted. After a kill the old file therefore still holds everything, and the copy of the same place
-- in the queue is the one with fewer lines.

local Segment = ...

local Thinning = {}
Thinning.__index = Thinning

local COMMA = (","):byte()

-- Work of one call: it ends after so many lines, or so many bytes. What costs time is less the lines than the garbage
-- that they become.
local LINES = 24
local BYTES = 6 * 1024

-- free: {path, file, used}, which the segment takes over. Returns nil when the lines are not where they should be, or
-- the copy cannot be written.
function Thinning.new(segment, free)
	local source = Segment.open_lines(segment)
	if not source or not Segment.mark(free, segment.place or segment.number) then
		if source then
			source:close()
		end
		return nil
	end
	-- Of each type what leaves with this copy, and what of it is still to be met.
	local leaving, left = {}, {}
	for kind, count in pairs(segment.gone) do
		leaving[kind], left[kind] = count, count
	end
	return setmetatable({segment = segment, free = free, source = source, leaving = leaving, left = left, met = 0,
		kept = 0, bytes = 0}, Thinning)
end

-- Copies on. Returns "more", "done", or nil when that failed.
function Thinning:step()
	if self.whole then
		return "done"
	end
	local read, written = 0, true
	for _ = 1, LINES do
		local line = self.source:read("*l")
		if not line then
			self.whole = self.kept + self.met == self.segment.count + self.segment.lost and self.free.file:flush()
			return self.whole and "more" or nil
		elseif line:byte(-1) ~= COMMA then
			return nil
		end
		read = read + #line
		local kind = Segment.type_of(line)
		if (self.left[kind] or 0) > 0 then
			self.left[kind], self.met = self.left[kind] - 1, self.met + 1
		else
			self.kept, self.bytes = self.kept + 1, self.bytes + #line + 1
			written = written and self.free.file:write(line, "\n")
		end
		if read >= BYTES then
			break
		end
	end
	return written and self.free.file:flush() and "more" or nil
end

-- The segment moves into the copy. Returns the path and the use of the file that it had, whose lines are then done.
function Thinning:finish()
	local segment, free = self.segment, self.free
	local old, used = segment.path, segment.used
	Segment.close(segment)
	free.file:close()
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

return Thinning
