-- The work that the spool puts off: files to make, empty or delete, segments to thin or to join for their request. It
-- is done in small parts, so that none takes more than a server step has to spare.

-- segment.lua and thinning.lua, which the loader hands over.
local Segment, Thinning = ...

local Upkeep = {}
Upkeep.__index = Upkeep

local IDLE_US = 2e6
-- Segments that wait to be thinned and files that wait to be deleted; where there are more, each event that comes does
-- a part of that work too.
local MAX_WAITING = 16

-- queue: the segments, of which the first is sent next.
function Upkeep.new(queue, pool)
	return setmetatable({queue = queue, pool = pool, thinning = Thinning.new(pool)}, Upkeep)
end

-- Takes over a segment that lost events and is no longer filled.
function Upkeep:tidy(segment)
	if segment.count == 0 then
		self.queue:remove(segment)
		self:release(segment)
	elseif Segment.is_worn(segment) then
		self.thinning:add(segment)
	end
end

-- The file of a segment that has left the queue is free again.
function Upkeep:release(segment)
	self.thinning:stop(segment)
	-- The name of one of an earlier run, which has no use, is no place for this run's segments.
	self.pool:give(segment, segment.saved and segment.used and segment.used + segment.bytes)
end

-- The segment is to stay as it is.
function Upkeep:stop(segment)
	self.thinning:stop(segment)
end

-- One part of the work on the segment that is sent next. Returns whether there was any.
function Upkeep:make_ready()
	local segment = self.queue.first
	if not segment or not segment.taken or segment.body then
		return false
	elseif not segment.gone or segment.stuck then
		segment.body = Segment.body_of(segment)
	else
		self.thinning:work_on(segment)
	end
	return true
end

-- One part of the work. Returns whether there was any.
function Upkeep:work()
	return self.pool:tend() or self:make_ready() or self.thinning:work()
end

-- Call it with each event that comes: does one part where too many wait.
function Upkeep:catch_up()
	if self.thinning:backlog() + self.pool:backlog() > MAX_WAITING then
		self:work()
	end
end

-- One file is made, emptied or deleted, or one part is done of what makes a segment ready or thins it. Once the spool
-- has been idle, files whose lines are done are emptied.
function Upkeep:tend(now_us)
	if self:work() or self.queue.first then
		self.idle_us = nil
		return
	end
	self.idle_us = self.idle_us or now_us
	if now_us - self.idle_us >= IDLE_US then
		self.pool:empty_one()
	end
end

-- All of the work on one segment at once.
function Upkeep:finish(segment)
	while not self.thinning:work_on(segment) do
		self.pool:tend()
	end
end

return Upkeep
