-- Events that are captured and not yet acknowledged: a queue of segments. Each segment is one file of JSON lines
-- in the world's folder, and one request to the gateway.
--
-- Guarantee: an event is in its file before put() returns, and is removed only after the gateway has acknowledged
-- it. A killed server therefore loses no event; the next start sends it again with the same id. Only events
-- beyond the limit are dropped, those of the lowest value first, and counted.
--
-- Dropping an event changes only the counts: each event that arrives at a full spool drops one of the lowest
-- value from the oldest segment that has any. The lines are removed from the files later, a part of one file in
-- each server step: for the next segment before it is sent, for others when a quarter of the file is dropped
-- lines. The files therefore have at most a third more lines than the spool, plus those of MAX_WAITING segments
-- (upkeep.lua). A restart after a kill reads these lines again, and drops them again if the spool is full.
--
-- The work is spread over server steps: due(), take() and done() never create, empty or delete files, and put()
-- does so only if no file is ready or too many are waiting. Otherwise tend() does it, one file in each call
-- (upkeep.lua).

-- segment.lua, queue.lua, pool.lua, upkeep.lua, leftovers.lua and erasures.lua, passed in by init.lua.
local Segment, Queue, Pool, Upkeep, Leftovers, Erasures = ...

local Spool = {}
Spool.__index = Spool

-- Limits of one request: far below the gateway's 1 MiB, and small enough to be read, joined, copied and
-- garbage-collected within a server step (400 KiB took 4 ms).
Spool.MAX_EVENTS = 199
Spool.MAX_BYTES = 64 * 1024
-- Maximum number of events in memory only, if the world's folder cannot be written.
Spool.MAX_UNSAVED = 5000
-- A larger request is prepared in the step before the one that sends it.
local MAX_BYTES_AT_ONCE = 16 * 1024

-- options: dir, boot (hex), started (whole seconds), limit (events), list(dir) -> file names, log(level, text),
-- check(line, erase) -> whether a line of an earlier run can be sent, set_aside(lines) for those that cannot, and
-- on_dropped(losses), called just before dropped events are removed; losses: {count, types, ids}, see losses.lua.
function Spool.new(options)
	local self = setmetatable({
		dir = options.dir,
		started = options.started,
		boot = options.boot,
		limit = options.limit,
		list = options.list,
		log = options.log,
		check = options.check,
		set_aside = options.set_aside,
		queue = Queue.new(Segment.HIGHEST_VALUE),
		number = 0,
		count = 0,
		unsaved = 0,
		dropped_total = 0,
		dropped_left = 0,
	}, Spool)
	self.pool = Pool.new(function()
		return self:new_path("ndjson")
	end, function(losses)
		self.dropped_left = self.dropped_left - losses.count
		options.on_dropped(losses)
	end)
	self.upkeep = Upkeep.new(self.queue, self.pool)
	self.erasures = Erasures.new(self.queue, self.upkeep)
	return self
end

-- Loads the events of earlier runs. Returns their number.
function Spool:load()
	local found, torn, latest = Leftovers.find_all(self.dir, self.list(self.dir), self.check, self.set_aside)
	-- File names must sort by time, even if the clock was set back, or the server started twice in one second.
	self.started = math.max(self.started, latest + 1)
	for _, segment in ipairs(found) do
		self.queue:push(segment)
		if segment.erase then
			self.erasures:add(segment)
		else
			self.count = self.count + segment.count
		end
	end
	-- The server is still loading: this may take some time.
	self:shed()
	self.pool:settle()
	repeat
	until not self.pool:tend()
	if torn > 0 then
		self.log("warning", ("spool: skipped %d incomplete lines, left by a crash"):format(torn))
	end
	return self.count
end

function Spool:new_path(ending)
	self.number = self.number + 1
	return ("%s/%012d-%s-%08d.%s"):format(self.dir, self.started, self.boot, self.number, ending)
end

function Spool:begin(erase)
	local segment = Segment.new({lines = {}, erase = erase, saved = true})
	if erase then
		segment.path = self:new_path("erase")
		segment.file = io.open(segment.path, "ab")
	else
		local free = self.pool:take()
		segment.path, segment.file, segment.used = free.path, free.file, free.used
	end
	self.number = self.number + 1
	segment.number = self.number
	if not Segment.mark(segment, segment.number) then
		self:unsave(segment)
	end
	return self.queue:push(segment)
end

function Spool:unsave(segment)
	if segment.saved then
		segment.saved = false
		self.unsaved = self.unsaved + segment.count
		if not self.warned then
			self.warned = true
			self.log("error", "spool: cannot write " .. segment.path .. ": events are only in memory now")
		end
	end
end

-- Adds one encoded event. On return it is in its file.
function Spool:put(line, now_us)
	local segment = self.open
	if segment and (#segment.lines >= Spool.MAX_EVENTS or segment.bytes + #line >= Spool.MAX_BYTES) then
		self:seal()
		segment = nil
	end
	if not segment then
		segment = self:begin(false)
		segment.began_us = now_us
		self.open = segment
	end
	if segment.saved and not Segment.write(segment, line) then
		self:unsave(segment)
	end
	segment.lines[#segment.lines + 1] = line
	Segment.count_line(segment, line)
	self.count = self.count + 1
	if not segment.saved then
		self.unsaved = self.unsaved + 1
	end
	self:shed()
	self.upkeep:catch_up()
end

-- Adds an erasure. It keeps its place in the queue: events captured before it are sent before it, and are erased too.
function Spool:put_erasure(line)
	self:seal()
	if self.erasures:is_last(line) then
		return
	end
	local segment = self:begin(true)
	segment.lines[1], segment.count, segment.subject = line, 1, line
	if segment.saved and not Segment.write(segment, line) then
		self:unsave(segment)
	end
	Segment.close(segment)
	self.erasures:add(segment)
end

-- Tries the erasure that was held first once more, behind all events captured until now.
function Spool:retry_erasure()
	self:seal()
	self.erasures:retry()
end

-- Closes the segment that is being filled, so that it can be sent.
function Spool:seal()
	local segment = self.open
	if not segment then
		return
	end
	self.open = nil
	-- The oldest segment is sent next, and its file may be reused. Others keep neither an open file nor lines in memory.
	if segment ~= self.queue.first then
		Segment.close(segment)
		if segment.saved then
			segment.lines = nil
		end
	end
	self:tidy(segment)
end

-- Drops events beyond the limits.
function Spool:shed()
	while self.count > self.limit or self.unsaved > Spool.MAX_UNSAVED do
		local unsaved_only = self.count <= self.limit
		local excess = unsaved_only and self.unsaved - Spool.MAX_UNSAVED or self.count - self.limit
		local segment, value = self.queue:victim(unsaved_only)
		if not segment then
			return
		end
		local dropped = Segment.drop(segment, value, excess)
		self.count = self.count - dropped
		if not segment.saved then
			self.unsaved = self.unsaved - dropped
		end
		-- All dropped events of this run, and those of them whose lines are still there.
		self.dropped_total = self.dropped_total + dropped
		self.dropped_left = self.dropped_left + dropped
		self:tidy(segment)
	end
end

-- Starts the upkeep of a segment that lost events, unless it is still being filled.
function Spool:tidy(segment)
	if segment ~= self.open then
		self.upkeep:tidy(segment)
	end
end

-- Whether a segment can be sent: a full one, or one whose first event has waited interval_us. A segment that lost
-- events, or is large, is prepared by tend() first; from then on it loses no events. Files of finished segments
-- are emptied first: otherwise, after a kill, an erasure would be sent again after later events.
function Spool:due(now_us, interval_us)
	local segment = self.queue.first
	if not segment or segment == self.open and now_us - segment.began_us < interval_us or self.pool:backlog() > 0 then
		return false
	elseif segment == self.open then
		self:seal()
	end
	segment.taken = not segment.removed
	return segment.taken and (not segment.gone or segment.stuck) and
		(segment.body or segment.bytes <= MAX_BYTES_AT_ONCE) and true or false
end

-- The oldest segment, {count, body, erase, …}, or nil. body is its lines joined by commas. It stays in the spool until
-- done() is called. If it could not be sent, set taken to nil, so that it may be thinned.
function Spool:take()
	-- Needed at shutdown only: otherwise due() has waited for it.
	self.pool:settle()
	if self.open and self.open == self.queue.first then
		self:seal()
	end
	local segment = self.queue.first
	if not segment then
		return nil
	end
	if not segment.body then
		segment.body = Segment.body_of(segment)
	end
	if segment.saved then
		segment.lines = nil
	end
	segment.taken = true
	return segment
end

-- Removes a segment that the gateway has acknowledged.
function Spool:done(segment)
	assert(segment == self.queue.first, "only the oldest segment can be done")
	self.queue:remove(segment)
	self.upkeep:release(segment)
	if segment.erase then
		self.erasures:done(segment)
		return
	end
	self.count = self.count - segment.count
	if not segment.saved then
		self.unsaved = self.unsaved - segment.count
	end
end

-- Whether tend() would create, empty or delete a file, which may take a whole server step.
function Spool:awaits_file()
	return self.pool:has_work()
end

-- Does one part of the deferred work. Call it in server steps with little other work.
function Spool:tend(now_us)
	self.upkeep:tend(now_us)
end

-- At shutdown: closes all files, deletes empty ones, and removes dropped lines.
function Spool:close()
	self:seal()
	for segment in self.queue:each() do
		self.upkeep:finish(segment)
		Segment.close(segment)
	end
	self.pool:close()
end

-- Adds one line to the next segment to be sent, ahead of the backlog.
function Spool:put_first(line, now_us)
	local segment = self.queue.first
	if not segment or segment == self.open or segment.erase or segment.taken or not segment.saved
		or segment.former and not segment.former.over then
		return self:put(line, now_us)
	end
	self.upkeep:stop(segment)
	segment.file = segment.file or io.open(segment.path, "ab")
	if not Segment.write(segment, line) then
		return self:put(line, now_us)
	end
	if segment.lines then
		segment.lines[#segment.lines + 1] = line
	end
	segment.body = nil
	Segment.count_line(segment, line)
	self.count = self.count + 1
end

return Spool
