-- The files of the spool that hold nothing that is still to be sent. Some wait, open, for their next segment; others
-- wait to be emptied or deleted. To make, empty or delete a file costs as much as a hundred lines, and more than all of
-- a server step on some disks: each is done in tend(), one file in a call, and the rest only notes what is to be done.

local Segment = ...

local Pool = {}
Pool.__index = Pool

-- So many files are opened ahead: one for the next segment, one for what is thinned. One more is kept: the next segment
-- takes one of them before that which is being sent gives its own back.
local WANTED = 2
local KEPT = 3
-- The size up to which a file is used again as it is, with a mark that ends what it held.
local MAX_REUSED_BYTES = 512 * 1024

-- new_path() gives the path of a file that does not exist yet. used, of a file, is the number of its bytes that are
-- done; nil for one that is not used again.
function Pool.new(new_path)
	return setmetatable({new_path = new_path, free = {}, spent = {}}, Pool)
end

function Pool:make()
	local path = self.new_path()
	return {path = path, file = io.open(path, "ab"), used = 0}
end

-- An open file, {path, file, used}; made only where none was made ahead. file is nil where the disk does not allow one.
function Pool:take()
	return table.remove(self.free) or self:make()
end

function Pool:has_free()
	return #self.free > 0
end

-- How many files wait to be emptied or deleted. A kill finds their lines still there.
function Pool:backlog()
	return #self.spent
end

-- Takes the file of a segment whose lines are done. One that is open is used again after a mark.
function Pool:give(segment, used)
	if used and segment.file and used < MAX_REUSED_BYTES and #self.free < KEPT and Segment.mark(segment) then
		self.free[#self.free + 1] = {path = segment.path, file = segment.file, used = used}
		segment.file = nil
	else
		Segment.close(segment)
		self:retire(segment.path, used)
	end
end

-- Takes a closed file, to be emptied or deleted. Returns what tells by its field over that this was done.
function Pool:retire(path, used)
	local spent = {path = path, used = used}
	self.spent[#self.spent + 1] = spent
	return spent
end

-- To empty a file is cheaper than to delete it and to make another.
function Pool:clear(spent)
	if spent.used and #self.free < KEPT then
		self.free[#self.free + 1] = {path = spent.path, file = io.open(spent.path, "wb"), used = 0}
	else
		os.remove(spent.path)
	end
	spent.over = true
end

-- Whether a file waits to be emptied, deleted or made.
function Pool:has_work()
	return #self.spent > 0 or #self.free < WANTED
end

-- Empties, deletes or makes one file. Returns whether there was one.
function Pool:tend()
	if #self.spent > 0 then
		self:clear(table.remove(self.spent, 1))
		return true
	elseif #self.free < WANTED then
		-- The one that was made first is used first.
		table.insert(self.free, 1, self:make())
		return true
	end
	return false
end

-- Empties one file of those that wait open, whose lines are done. Returns whether there was one.
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

-- Does at once all that waits to be done.
function Pool:settle()
	while #self.spent > 0 do
		self:clear(table.remove(self.spent, 1))
	end
end

-- Leaves no file behind.
function Pool:close()
	self:settle()
	for _, free in ipairs(self.free) do
		Segment.close(free)
		os.remove(free.path)
	end
	self.free = {}
end

return Pool
