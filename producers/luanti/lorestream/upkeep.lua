-- The deferred work of the spool: creating, emptying and deleting files, thinning segments, and joining the lines
-- of the next request. It is done in small parts, each short enough for a server step.

-- segment.lua, thinning.lua and dropped.lua, passed in by init.lua.
local Segment, Thinning, Dropped = ...

local Upkeep = {}
Upkeep.__index = Upkeep

local IDLE_US = 2e6
-- With more segments and files waiting than this, each new event does a part of the work too.
local MAX_WAITING = 16

-- queue: the segments in sending order.
function Upkeep.new(queue, pool)
	return setmetatable({queue = queue, pool = pool, thinning = Thinning.new(pool)}, Upkeep)
end

-- Handles a segment that lost events and no longer grows.
function Upkeep:tidy(segment)
	if segment.count == 0 then
		self.queue:remove(segment)
		self:release(segment)
	elseif Segment.is_worn(segment) then
		self.thinning:add(segment)
	end
end

-- Returns the file of a segment that has left the queue to the pool.
function Upkeep:release(segment)
	self.thinning:stop(segment)
	-- A file of an earlier run (without the field used) is not reused: its name would sort before this run's segments.
	local dropped
	if segment.lost > 0 and segment.saved then
		dropped = Dropped.new(segment)
	elseif segment.lost > 0 then
		self.thinning:thin(segment)
	end
	self.pool:give(segment, segment.saved and segment.used and segment.used + segment.bytes, dropped)
end

-- Stops thinning the segment.
function Upkeep:stop(segment)
	self.thinning:stop(segment)
end

-- Does one part of preparing the next segment to be sent. Returns whether there was any work.
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

-- Does one part of the work. Returns whether there was any.
function Upkeep:work()
	return self.pool:tend() or self:make_ready() or self.thinning:work()
end

-- Call it for each new event: does one part of the work if too much is waiting.
function Upkeep:catch_up()
	if self.thinning:backlog() + self.pool:backlog() > MAX_WAITING then
		self:work()
	end
end

-- Creates, empties or deletes one file, or does one part of preparing or thinning a segment. When the spool has
-- been idle for IDLE_US, empties files whose lines are done.
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

-- Does all of the work on one segment at once.
function Upkeep:finish(segment)
	while not self.thinning:work_on(segment) do
		self.pool:tend()
	end
end

return Upkeep
