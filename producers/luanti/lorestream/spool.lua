-- What was captured and not yet acknowledged: a queue of segments, each one file of JSON lines in the world's
-- folder and one request to the gateway.
--
-- The promise: an event that put() took is written to its file before put() returns, and leaves it only when the
-- gateway answered for it. A killed server therefore loses nothing of it; the next start sends the same ids again.
-- Only events beyond the limit are dropped, lowest value first, and counted.
--
-- To drop an event is to count it out: each event that comes to a full spool drops the oldest segment's of the lowest
-- value there is, one type after another. The lines leave their files later, a part of one file in a server step: those
-- of a segment that is sent before it is sent, others once a quarter of the file is dropped lines. The files therefore
-- hold at most a third more lines than the spool, and those of MAX_WAITING segments; a restart after a kill finds them
-- and drops them again if the spool is then full.
--
-- Each server step has its share of the work: due(), take() and done() make, empty and delete no file, and put() does
-- only where none was made ahead or too many wait. That is left to upkeep.lua and tend(), one file in a call.

-- segment.lua, queue.lua, pool.lua and upkeep.lua, which the loader hands over.
local Segment, Queue, Pool, Upkeep = ...

local Spool = {}
Spool.__index = Spool

-- One request: at most this many events, well under the gateway's 1 MiB, and so few bytes that to read, join, copy
-- and collect them fits into a server step: 400 KiB took 4 ms of one.
Spool.MAX_EVENTS = 199
Spool.MAX_BYTES = 64 * 1024
-- Events kept in memory alone, when the world's folder cannot be written.
Spool.MAX_UNSAVED = 5000
-- A larger request is read or joined in the step before the one that sends it.
local MAX_BYTES_AT_ONCE = 16 * 1024

-- options: dir, boot (hex), started (whole seconds), limit (events), list(dir) -> file names, log(level, text).
function Spool.new(options)
	local self = setmetatable({
		dir = options.dir,
		started = options.started,
		boot = options.boot,
		limit = options.limit,
		list = options.list,
		log = options.log,
		queue = Queue.new(Segment.HIGHEST_VALUE),
		number = 0,
		count = 0,
		unsaved = 0,
		dropped = 0,
		dropped_total = 0,
		dropped_types = {},
	}, Spool)
	self.pool = Pool.new(function()
		return self:new_path("ndjson")
	end)
	self.upkeep = Upkeep.new(self.queue, self.pool)
	return self
end

-- Takes over what an earlier run left behind. Returns the number of events.
function Spool:load()
	local found, torn, latest = Segment.find_all(self.dir, self.list(self.dir))
	-- File names sort by time, even where a clock went back or a server started twice in one second.
	self.started = math.max(self.started, latest + 1)
	for _, segment in ipairs(found) do
		self.queue:push(segment)
		self.count = self.count + (segment.erase and 0 or segment.count)
	end
	-- The server loads: now this may take its time.
	self:shed()
	self.pool:settle()
	repeat
	until not self.pool:tend()
	if torn > 0 then
		self.log("warning", ("spool: left out %d incomplete lines"):format(torn))
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
			self.log("error", "spool: cannot write " .. segment.path .. ": events are kept in memory only")
		end
	end
end

-- Takes one encoded event; on return it is in its file.
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

-- An erasure keeps its place in the queue: what was captured before it is sent before it, and is erased too.
function Spool:put_erasure(line)
	self:seal()
	local segment = self:begin(true)
	segment.lines[1], segment.count = line, 1
	if segment.saved and not Segment.write(segment, line) then
		self:unsave(segment)
	end
	Segment.close(segment)
end

-- Ends the segment that is being filled; it is then ready to be sent.
function Spool:seal()
	local segment = self.open
	if not segment then
		return
	end
	self.open = nil
	-- The oldest is sent next and its file may be used again; a backlog keeps neither files open nor lines.
	if segment ~= self.queue.first then
		Segment.close(segment)
		if segment.saved then
			segment.lines = nil
		end
	end
	self:tidy(segment)
end

-- Drops what is too much.
function Spool:shed()
	while self.count > self.limit or self.unsaved > Spool.MAX_UNSAVED do
		local unsaved_only = self.count <= self.limit
		local excess = unsaved_only and self.unsaved - Spool.MAX_UNSAVED or self.count - self.limit
		local segment, value = self.queue:victim(unsaved_only)
		if not segment then
			return
		end
		local kind, dropped = Segment.drop(segment, value, excess)
		self.count = self.count - dropped
		if not segment.saved then
			self.unsaved = self.unsaved - dropped
		end
		self.dropped = self.dropped + dropped
		self.dropped_total = self.dropped_total + dropped
		self.dropped_types[kind] = (self.dropped_types[kind] or 0) + dropped
		self:tidy(segment)
	end
end

-- What becomes of a segment that lost events: nothing while it is filled.
function Spool:tidy(segment)
	if segment ~= self.open then
		self.upkeep:tidy(segment)
	end
end

-- Whether there is something to send: a full segment, or one whose first event has waited interval_us. One that lost
-- events or is large is made ready by tend() before, and loses no more. What was done or dropped leaves its file first:
-- else a kill would send an erasure again after what came behind it.
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

-- The oldest segment, {count, body, erase, …}, or nil. body joins its lines with commas. It stays in the spool
-- until done() is called. Clear taken when it could not be sent, so that it may be thinned.
function Spool:take()
	-- Only at shutdown is there any: see due().
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

-- The segment was answered for: its lines go.
function Spool:done(segment)
	assert(segment == self.queue.first, "only the oldest segment can be done")
	self.queue:remove(segment)
	self.upkeep:release(segment)
	if not segment.erase then
		self.count = self.count - segment.count
		if not segment.saved then
			self.unsaved = self.unsaved - segment.count
		end
	end
end

-- Whether tend() would make, empty or delete a file: work that fills a server step.
function Spool:awaits_file()
	return self.pool:has_work()
end

-- Call it in steps with little else to do.
function Spool:tend(now_us)
	self.upkeep:tend(now_us)
end

-- At shutdown: ends the open segment and leaves only files that hold something, and nothing that was dropped.
function Spool:close()
	self:seal()
	for segment in self.queue:each() do
		self.upkeep:finish(segment)
		Segment.close(segment)
	end
	self.pool:close()
end

-- How many events were dropped since the last call, and of which types; nil when none were.
function Spool:take_drops()
	if self.dropped == 0 then
		return nil
	end
	local drops = {count = self.dropped, types = self.dropped_types}
	self.dropped, self.dropped_types = 0, {}
	return drops
end

-- Puts one line into the next segment to be sent, ahead of the backlog.
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
