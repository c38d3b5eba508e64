-- The segments of a spool in the order in which they are sent, and which of them is thinned next. Any may be removed,
-- so that what was dropped whole leaves nothing behind in a long outage.

local Queue = {}
Queue.__index = Queue

-- highest: the greatest value that an event may have; 1 is the lowest.
function Queue.new(highest)
	-- For each value the segment before which none holds an event of it, but for the first: among all segments,
	-- and among those that are not saved. To look from there on costs no more than the queue grows.
	return setmetatable({highest = highest, marks = {[true] = {}, [false] = {}}}, Queue)
end

function Queue:push(segment)
	segment.before = self.last
	if self.last then
		self.last.after = segment
	else
		self.first = segment
	end
	self.last = segment
	return segment
end

function Queue:remove(segment)
	for _, marks in pairs(self.marks) do
		for value = 1, self.highest do
			if marks[value] == segment then
				marks[value] = segment.after or segment.before
			end
		end
	end
	local before, after = segment.before, segment.after
	if before then
		before.after = after
	else
		self.first = after
	end
	if after then
		after.before = before
	else
		self.last = before
	end
	segment.before, segment.after, segment.removed = nil, nil, true
end

-- for segment in queue:each() do … end; do not remove any meanwhile.
function Queue:each()
	return function(_, segment)
		if segment then
			return segment.after
		end
		return self.first
	end
end

local function may_lose(segment, value, unsaved_only)
	return segment.values[value] > 0 and not segment.erase and not segment.taken
		and not (unsaved_only and segment.saved)
end

-- The oldest segment that holds events of the lowest value there is, and that value; nil when there is none. What is
-- being sent is left alone.
function Queue:victim(unsaved_only)
	local marks = self.marks[unsaved_only]
	for value = 1, self.highest do
		local first = self.first
		-- It is out of turn: it may have been in flight when the others were looked at.
		if first and may_lose(first, value, unsaved_only) then
			return first, value
		end
		local segment = marks[value] or first
		while segment and not may_lose(segment, value, unsaved_only) do
			segment = segment.after
		end
		-- The last may still be filled.
		marks[value] = segment or self.last
		if segment then
			return segment, value
		end
	end
end

return Queue
