-- The files of the spool that hold nothing more to send. Some are open for the next segments; others wait to be
-- emptied or deleted. Creating, emptying or deleting a file takes as long as writing a hundred lines, and on some
-- disks more than a whole server step may take. Therefore tend() does it, for one file in each call; all other
-- functions only queue it.

local Segment = ...

local Pool = {}
Pool.__index = Pool

-- Number of files opened in advance: one for the next segment, one for the copy of a thinned segment. At most one
-- more is kept, because the next segment takes a file before the segment being sent returns its own.
local WANTED = 2
local KEPT = 3
-- A file up to this size is reused without emptying it, by writing a mark that ends its old content.
local MAX_REUSED_BYTES = 512 * 1024

-- new_path() returns the path of a file that does not exist yet. on_dropped(losses) is called just before dropped lines
-- are removed; losses: {count, types, ids}, see losses.lua. The field used of a file is the number of bytes whose lines
-- are done; nil for a file that is not reused.
function Pool.new(new_path, on_dropped)
	return setmetatable({new_path = new_path, on_dropped = on_dropped, free = {}, spent = {}}, Pool)
end

function Pool:make()
	local path = self.new_path()
	return {path = path, file = io.open(path, "ab"), used = 0}
end

-- Returns an open file, {path, file, used}, and creates it if none is ready. file is nil if it cannot be opened.
function Pool:take()
	return table.remove(self.free) or self:make()
end

function Pool:has_free()
	return #self.free > 0
end

-- The number of files waiting to be emptied or deleted. After a kill, their lines are still there.
function Pool:backlog()
	return #self.spent
end

-- Takes back the file of a segment whose lines are done. An open file is reused after a mark. dropped: reads the
-- ids of dropped lines in it (dropped.lua); nil if there are none.
function Pool:give(segment, used, dropped)
	if used and not dropped and segment.file and used < MAX_REUSED_BYTES and #self.free < KEPT
		and Segment.mark(segment) then
		self.free[#self.free + 1] = {path = segment.path, file = segment.file, used = used}
		segment.file = nil
	else
		Segment.close(segment)
		self:retire({path = segment.path, used = used, dropped = dropped})
	end
end

-- Queues a closed file to be emptied or deleted: {path, used, dropped or losses}. Its field over becomes true when
-- that is done.
function Pool:retire(spent)
	self.spent[#self.spent + 1] = spent
end

-- Does one part of the work on the first file of the queue.
function Pool:clear_part()
	local spent = self.spent[1]
	if not spent.dropped or spent.dropped:step() then
		table.remove(self.spent, 1)
		self:clear(spent)
	end
end

-- Emptying a file is cheaper than deleting it and creating another.
function Pool:clear(spent)
	local losses = spent.losses or spent.dropped and spent.dropped.losses
	if losses then
		self.on_dropped(losses)
	end
	if spent.used and #self.free < KEPT then
		self.free[#self.free + 1] = {path = spent.path, file = io.open(spent.path, "wb"), used = 0}
	else
		os.remove(spent.path)
	end
	spent.over = true
end

-- Whether a file must be emptied, deleted or created.
function Pool:has_work()
	return #self.spent > 0 or #self.free < WANTED
end

-- Empties, deletes or creates one file, or reads a part of one. Returns whether there was one.
function Pool:tend()
	if #self.spent > 0 then
		self:clear_part()
		return true
	elseif #self.free < WANTED then
		-- Files are used in the order in which they were created.
		table.insert(self.free, 1, self:make())
		return true
	end
	return false
end

-- Empties one of the open, unused files that still has old content. Returns whether there was one.
function Pool:empty_one()
	for _, free in ipairs(self.free) do
		if free.used > 0 then
			free.file:close()
			free.file, free.used = io.open(free.path, "wb"), 0
			return true
		end
	end
	return false
end

-- Empties or deletes all waiting files at once.
function Pool:settle()
	while #self.spent > 0 do
		self:clear_part()
	end
end

-- Deletes all files of the pool.
function Pool:close()
	self:settle()
	for _, free in ipairs(self.free) do
		Segment.close(free)
		os.remove(free.path)
	end
	self.free = {}
end

return Pool
