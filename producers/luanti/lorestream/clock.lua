-- Wall-clock time with millisecond precision.
--
-- os.time() has whole seconds, get_us_time() has microseconds of an unknown epoch. The true time lies in
-- [os.time(), os.time() + 1), so every reading narrows the offset between the two from below: after the first
-- change of second that is seen, it is right to within one server step.

local Clock = {}
Clock.__index = Clock

-- How far the strictly rising stamps may run ahead of the clock, in milliseconds. Above it equal stamps are
-- given: the gateway keeps the order of one request.
local MAX_AHEAD_MS = 1000
-- A wall clock that is set back by more than this is believed, in seconds.
local MAX_BACK_S = 2

-- wall() gives whole seconds, micros() microseconds that never go back.
function Clock.new(wall, micros)
	return setmetatable({
		wall = wall,
		micros = micros,
		offset_ms = wall() * 1000 - micros() / 1000,
		last_ms = 0,
	}, Clock)
end

-- Milliseconds since 1970. Call it often: each call may sharpen the offset.
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

-- A time stamp in seconds, rounded to milliseconds, later than the one before it.
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
