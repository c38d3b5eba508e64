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
-- hold at most a third more lines than the spool, and those of MAX_WORN segments; a restart after a kill finds them and
-- drops them again if the spool is then full.
--
-- To make a file costs a hundred times what a line costs, and a millisecond on some disks. A file whose segment was
-- answered for is therefore used again, see segment.lua; when the spool is idle, such files are emptied.

-- segment.lua, queue.lua and thinning.lua, which the loader hands over.
local Segment, Queue, Thinning = ...

local Spool = {}
Spool.__index = Spool

-- One request: at most this many events, well under the gateway's 1 MiB, and so few bytes that to read, join, copy
-- and collect them fits into a server step: 400 KiB took 4 ms of one.
Spool.MAX_EVENTS = 199
Spool.MAX_BYTES = 64 * 1024
-- Events kept in memory alone, when the world's folder cannot be written.
Spool.MAX_UNSAVED = 5000
-- Files that wait for their next segment, and the size up to which they may.
local MAX_FREE = 2
local MAX_REUSED_BYTES = 512 * 1024
local IDLE_US = 2e6
-- Segments that wait to be thinned; where there are more, each event that comes does a part of that work too.
local MAX_WORN = 16

-- options: dir, boot (hex), started (whole seconds), limit (events), list(dir) -> file names, log(level, text).
function Spool.new(options)
	return setmetatable({
		dir = options.dir,
		started = options.started,
		boot = options.boot,
		limit = options.limit,
		list = options.list,
		log = options.log,
		queue = Queue.new(Segment.HIGHEST_VALUE),
		worn = {},
		free = {},
		number = 0,
		count = 0,
		unsaved = 0,
		dropped = 0,
		dropped_total = 0,
		dropped_types = {},
	}, Spool)
end

local function discard(free)
	Segment.close(free)
	os.remove(free.path)
end

local function stop_thinning(segment)
	if segment.thinning then
		segment.thinning.source:close()
		discard(segment.thinning.free)
		segment.thinning = nil
	end
end

-- Takes over what an earlier run left behind. Returns the number of events.
function Spool:load()
	local found, torn, latest = {}, 0, 0
	for _, name in ipairs(self.list(self.dir)) do
		if name:find("^%d+%-%x+%-%d+%.ndjson$") or name:find("^%d+%-%x+%-%d+%.erase$") then
			local segment, bad = Segment.find(self.dir, name)
			torn, latest = torn + bad, math.max(latest, tonumber(name:match("^%d+")))
			found[#found + 1] = segment
		elseif name:find("%.part$") then
			os.remove(self.dir .. "/" .. name)
		end
	end
	table.sort(found, function(a, b)
		return a.place < b.place or a.place == b.place and a.count > b.count
	end)
	-- File names sort by time, even where a clock went back or a server started twice in one second.
	self.started = math.max(self.started, latest + 1)
	for _, segment in ipairs(found) do
		local last = self.queue.last
		if last and last.place == segment.place then
			-- The one with fewer lines is a copy that a kill interrupted, see thinning.lua.
			os.remove(segment.path)
		else
			self.queue:push(segment)
			self.count = self.count + (segment.erase and 0 or segment.count)
		end
	end
	-- The server loads: now this may take its time.
	self:shed()
	self:open_ahead()
	self:open_ahead()
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
	local free = not erase and table.remove(self.free)
	if free then
		segment.path, segment.file, segment.used = free.path, free.file, free.used
		self.number = self.number + 1
	else
		segment.path = self:new_path(erase and "erase" or "ndjson")
		segment.file, segment.used = io.open(segment.path, "ab"), 0
	end
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
	if #self.worn > MAX_WORN then
		self:thin_next()
	end
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
	if segment == self.open then
		return
	elseif segment.count == 0 then
		self.queue:remove(segment)
		self:release(segment)
	elseif Segment.is_worn(segment) and not segment.waits then
		segment.waits = true
		self.worn[#self.worn + 1] = segment
	end
end

-- One part of the work on the segment that has waited longest to be thinned.
function Spool:thin_next()
	local segment = self.worn[1]
	if segment.removed or self:thin(segment) then
		segment.waits = nil
		table.remove(self.worn, 1)
	end
end

-- One part of the work on this segment. Returns true when nothing is left to do.
function Spool:thin(segment)
	if not segment.gone or segment.stuck then
		return true
	elseif not segment.saved then
		Segment.thin(segment)
		return true
	elseif not segment.thinning then
		if #self.free == 0 then
			self:open_ahead()
			return false
		end
		local free = table.remove(self.free)
		segment.thinning = Thinning.new(segment, free)
		if not segment.thinning then
			discard(free)
			segment.stuck = true
		end
		return segment.stuck == true
	end
	local state = segment.thinning:step()
	if state == "done" then
		local path, used = segment.thinning:finish()
		segment.thinning = nil
		self:recycle(path, used)
		return not segment.gone
	elseif not state then
		-- It is sent without the dropped lines, but its file keeps them.
		stop_thinning(segment)
		segment.stuck = true
	end
	return segment.stuck == true
end

-- Whether there is something to send: a full segment, or one whose first event has waited interval_us. One that lost
-- events is thinned before, a part in each call, and loses no more.
function Spool:due(now_us, interval_us)
	local segment = self.queue.first
	if not segment or segment == self.open and now_us - segment.began_us < interval_us then
		return false
	elseif not segment.gone then
		return true
	elseif segment == self.open then
		self:seal()
		return false
	end
	segment.taken = true
	-- tend() opens a file where none is free.
	return (segment.thinning or #self.free > 0 or not segment.saved) and self:thin(segment) or false
end

-- The oldest segment, {count, body, erase, …}, or nil. body joins its lines with commas. It stays in the spool
-- until done() is called. Clear taken when it could not be sent, so that it may be thinned.
function Spool:take()
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

-- Keeps a file whose lines are done, or deletes it.
function Spool:release(segment)
	stop_thinning(segment)
	local used = segment.used and segment.used + segment.bytes or MAX_REUSED_BYTES
	if segment.saved and used < MAX_REUSED_BYTES and #self.free < MAX_FREE and Segment.mark(segment) then
		self.free[#self.free + 1] = {path = segment.path, file = segment.file, used = used}
		segment.file = nil
	else
		Segment.close(segment)
		self:recycle(segment.path, segment.saved and not segment.erase and segment.used)
	end
end

-- Empties a file, which is cheaper than to delete it and to make another, or deletes it. The name of one of an earlier
-- run, which has no use, is no place for this run's segments.
function Spool:recycle(path, used)
	if used and #self.free < MAX_FREE then
		self.free[#self.free + 1] = {path = path, file = io.open(path, "wb"), used = 0}
	else
		os.remove(path)
	end
end

-- The segment was answered for: its lines go.
function Spool:done(segment)
	assert(segment == self.queue.first, "only the oldest segment can be done")
	self.queue:remove(segment)
	self:release(segment)
	if not segment.erase then
		self.count = self.count - segment.count
		if not segment.saved then
			self.unsaved = self.unsaved - segment.count
		end
	end
end

function Spool:open_ahead()
	local path = self:new_path("ndjson")
	self.free[#self.free + 1] = {path = path, file = io.open(path, "ab"), used = 0}
end

-- Work for a step with little else to do: opens a file ahead, so that no event waits for that; thins a segment; and
-- once the spool has been idle, empties files whose lines are done. At most one file in a call.
function Spool:tend(now_us)
	if #self.free == 0 then
		return self:open_ahead()
	elseif #self.worn > 0 then
		return self:thin_next()
	elseif self.queue.first then
		self.idle_us = nil
		return
	end
	self.idle_us = self.idle_us or now_us
	if now_us - self.idle_us < IDLE_US then
		return
	end
	for _, free in ipairs(self.free) do
		if free.used > 0 then
			free.file:close()
			free.file, free.used = io.open(free.path, "wb"), 0
			return
		end
	end
end

-- At shutdown: ends the open segment and leaves only files that hold something, and nothing that was dropped.
function Spool:close()
	self:seal()
	for segment in self.queue:each() do
		repeat
		until self:thin(segment)
		Segment.close(segment)
	end
	for _, free in ipairs(self.free) do
		if free.file then
			free.file:close()
		end
		os.remove(free.path)
	end
	self.free = {}
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
	if not segment or segment == self.open or segment.erase or segment.taken or not segment.saved then
		return self:put(line, now_us)
	end
	stop_thinning(segment)
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
