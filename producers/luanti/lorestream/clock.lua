-- Wall-clock time with millisecond precision.
--
-- os.time() has whole seconds; get_us_time() has microseconds since an unknown moment. The true time lies in
-- [os.time(), os.time() + 1), so each reading gives a lower bound for the offset between the two. After the first
-- change of os.time() that is observed, the offset is exact to one server step.

local Clock = {}
Clock.__index = Clock

-- Timestamps increase strictly, and may run ahead of the clock by so many milliseconds. Beyond that, equal timestamps
-- are returned: the gateway keeps the order within one request.
local MAX_AHEAD_MS = 1000
-- If the wall clock is set back by more than this many seconds, the timestamps follow it.
local MAX_BACK_S = 2

-- wall() returns whole seconds, micros() monotonic microseconds.
function Clock.new(wall, micros)
	return setmetatable({
		wall = wall,
		micros = micros,
		offset_ms = wall() * 1000 - micros() / 1000,
		last_ms = 0,
	}, Clock)
end

-- Milliseconds since 1970. Call it often: each call may make the offset more exact.
function Clock:now_ms()
	local since_ms = self.micros() / 1000
	local floor_ms = self.wall() * 1000
	local ms = since_ms + self.offset_ms
	if ms < floor_ms or ms >= floor_ms + 1000 + MAX_BACK_S * 1000 then
		self.offset_ms = floor_ms - since_ms
		ms = floor_ms
	end
	return ms
end

-- A timestamp in seconds, rounded to milliseconds, later than the previous one.
function Clock:stamp()
	local ms = math.floor(self:now_ms())
	local ahead = self.last_ms - ms
	if ahead >= 0 then
		if ahead < MAX_AHEAD_MS then
			ms = self.last_ms + 1
		elseif ahead < MAX_AHEAD_MS + MAX_BACK_S * 1000 then
			ms = self.last_ms
		end
	end
	self.last_ms = ms
	return ms / 1000
end

return Clock
