-- What was captured and not yet acknowledged: a queue of segments, each one file of JSON lines in the world's
-- folder and one request to the gateway.
--
-- The promise: an event that put() took is written to its file before put() returns, and leaves it only when the
-- gateway answered for it. A killed server therefore loses nothing of it; the next start sends the same ids again.
-- Only events beyond the limit are dropped, lowest value first, and counted.
--
-- To make a file costs a hundred times what a line costs, and a millisecond on some disks. A file whose segment was
-- answered for is therefore used again, see segment.lua; when the spool is idle, such files are emptied.

-- segment.lua, which the loader hands over.
local Segment = ...

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

-- options: dir, boot (hex), started (whole seconds), limit (events), list(dir) -> file names, log(level, text).
function Spool.new(options)
	return setmetatable({
		dir = options.dir,
		started = options.started,
		boot = options.boot,
		limit = options.limit,
		list = options.list,
		log = options.log,
		segments = {},
		free = {},
		head = 1,
		tail = 0,
		number = 0,
		count = 0,
		unsaved = 0,
		dropped = 0,
		dropped_total = 0,
		dropped_types = {},
	}, Spool)
end

function Spool:push(segment)
	self.tail = self.tail + 1
	self.segments[self.tail] = segment
	return segment
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
		return a.place < b.place
	end)
	-- File names sort by time, even where a clock went back or a server started twice in one second.
	self.started = math.max(self.started, latest + 1)
	for _, segment in ipairs(found) do
		self:push(segment)
		if not segment.erase then
			self.count = self.count + segment.count
		end
	end
	-- The server loads: now a file may take its time.
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
	local segment = {lines = {}, count = 0, bytes = 0, values = {0, 0, 0}, erase = erase, saved = true}
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
	return self:push(segment)
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
	if segment and (segment.count >= Spool.MAX_EVENTS or segment.bytes + #line >= Spool.MAX_BYTES) then
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
	segment.count = segment.count + 1
	segment.lines[segment.count] = line
	segment.bytes = segment.bytes + Segment.size_of(line)
	local value = Segment.value_of(line)
	segment.values[value] = segment.values[value] + 1
	self.count = self.count + 1
	if not segment.saved then
		self.unsaved = self.unsaved + 1
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
	if segment ~= self.segments[self.head] then
		Segment.close(segment)
		if segment.saved then
			segment.lines = nil
		end
	end
	if self:is_full() then
		self:shed()
	end
end

-- The oldest segment that still holds events of the lowest value there is.
function Spool:victim(unsaved_only)
	for value = 1, Segment.HIGHEST_VALUE do
		for i = self.head, self.tail do
			local segment = self.segments[i]
			if segment.values[value] > 0 and not segment.erase and not segment.taken and segment ~= self.open
					and not (unsaved_only and segment.saved) then
				return segment, value
			end
		end
	end
end

function Spool:forget_line(line)
	local kind = Segment.type_of(line)
	self.dropped = self.dropped + 1
	self.dropped_total = self.dropped_total + 1
	self.dropped_types[kind] = (self.dropped_types[kind] or 0) + 1
end

-- Drops the events of one value, as many as are too many, from a segment.
function Spool:thin(segment, value, excess)
	local kept, before = {}, segment.count
	for _, line in ipairs(Segment.lines_of(segment)) do
		if excess > 0 and Segment.value_of(line) == value then
			self:forget_line(line)
			excess = excess - 1
		else
			kept[#kept + 1] = line
		end
	end
	Segment.tally(segment, kept)
	segment.body = nil
	Segment.close(segment)
	self.count = self.count - before + segment.count
	if not segment.saved then
		self.unsaved = self.unsaved - before + segment.count
		segment.lines = kept
	elseif #kept == 0 then
		os.remove(segment.path)
	else
		segment.lines = segment.lines and kept
		Segment.rewrite(segment, kept)
	end
end

function Spool:is_full()
	return self.count > self.limit or self.unsaved > Spool.MAX_UNSAVED
end

-- Thins one segment: to rewrite its file costs half a millisecond.
function Spool:shed()
	local unsaved_only = self.count <= self.limit
	local excess = unsaved_only and self.unsaved - Spool.MAX_UNSAVED or self.count - self.limit
	local segment, value = self:victim(unsaved_only)
	if segment then
		self:thin(segment, value, excess)
		self:skip_empty()
	end
end

-- Empty segments stand in the queue until they reach its head.
function Spool:skip_empty()
	while self.head <= self.tail do
		local segment = self.segments[self.head]
		if segment.count > 0 or segment == self.open then
			return
		end
		self.segments[self.head] = nil
		self.head = self.head + 1
	end
end

-- Whether there is something to send: a full segment, or one whose first event has waited interval_us.
function Spool:due(now_us, interval_us)
	self:skip_empty()
	local segment = self.segments[self.head]
	return segment ~= nil and (segment ~= self.open or now_us - segment.began_us >= interval_us)
end

-- The oldest segment, {count, body, erase, …}, or nil. body joins its lines with commas. It stays in the spool
-- until done() is called. Clear taken when it could not be sent, so that it may be thinned.
function Spool:take()
	self:skip_empty()
	local segment = self.segments[self.head]
	if not segment then
		return nil
	end
	if segment == self.open then
		self:seal()
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

-- Keeps the file of a segment that was answered for, or deletes it.
function Spool:release(segment)
	local used = segment.used and segment.used + segment.bytes or MAX_REUSED_BYTES
	if segment.saved and used < MAX_REUSED_BYTES and #self.free < MAX_FREE and Segment.mark(segment) then
		self.free[#self.free + 1] = {path = segment.path, file = segment.file, used = used}
		segment.file = nil
	else
		Segment.close(segment)
		os.remove(segment.path)
	end
end

-- The segment was answered for: its lines go.
function Spool:done(segment)
	assert(segment == self.segments[self.head], "only the oldest segment can be done")
	self:release(segment)
	if not segment.erase then
		self.count = self.count - segment.count
		if not segment.saved then
			self.unsaved = self.unsaved - segment.count
		end
	end
	self.segments[self.head] = nil
	self.head = self.head + 1
end

function Spool:open_ahead()
	local path = self:new_path("ndjson")
	self.free[#self.free + 1] = {path = path, file = io.open(path, "ab"), used = 0}
end

-- Work for a step with little else to do: opens a file ahead, so that no event waits for that; thins a spool that is
-- too full; and once the spool has been idle, empties files whose lines are done. At most one file in a call.
function Spool:tend(now_us)
	if #self.free == 0 then
		return self:open_ahead()
	elseif self:is_full() then
		return self:shed()
	elseif self.head <= self.tail then
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
			-- Cheaper than to delete it and to make another.
			free.file, free.used = io.open(free.path, "wb"), 0
			return
		end
	end
end

-- At shutdown: ends the open segment and leaves only files that hold something.
function Spool:close()
	self:seal()
	for i = self.head, self.tail do
		Segment.close(self.segments[i])
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
	self:skip_empty()
	local segment = self.segments[self.head]
	if not segment or segment == self.open or segment.erase or segment.taken or not segment.saved then
		return self:put(line, now_us)
	end
	segment.file = segment.file or io.open(segment.path, "ab")
	if not Segment.write(segment, line) then
		return self:put(line, now_us)
	end
	if segment.lines then
		segment.lines[#segment.lines + 1] = line
	end
	segment.body = nil
	segment.count = segment.count + 1
	segment.bytes = segment.bytes + Segment.size_of(line)
	segment.values[Segment.value_of(line)] = segment.values[Segment.value_of(line)] + 1
	self.count = self.count + 1
end

return Spool
