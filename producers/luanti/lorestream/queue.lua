-- The segments of a spool in sending order, as a linked list, and the choice of the segment that loses events next. Any
-- segment may be removed, so that a long outage leaves no empty segments behind.

local Queue = {}
Queue.__index = Queue

-- highest: the highest value (priority) of an event; the lowest is 1.
function Queue.new(highest)
	-- For each value, a segment such that no earlier one, except perhaps the first, has events of that value: among all
	-- segments, and among unsaved ones. Searching from there keeps the total cost proportional to the queue's growth.
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

-- Iterator: for segment in queue:each() do … end. Do not remove segments meanwhile.
function Queue:each()
	return function(_, segment)
		if segment then
			return segment.after
		end
		return self.first
	end
end

local function can_lose(segment, value, unsaved_only)
	return segment.values[value] > 0 and not segment.erase and not segment.taken
		and not (unsaved_only and segment.saved)
end

-- The oldest segment with events of the lowest value in the queue, and that value; nil if there is none. The segment
-- that is being sent is never returned.
function Queue:victim(unsaved_only)
	local marks = self.marks[unsaved_only]
	for value = 1, self.highest do
		local first = self.first
		-- Check the first segment separately: it may have been in flight when its value was searched.
		if first and can_lose(first, value, unsaved_only) then
			return first, value
		end
		local segment = marks[value] or first
		while segment and not can_lose(segment, value, unsaved_only) do
			segment = segment.after
		end
		-- The last segment may still be growing.
		marks[value] = segment or self.last
		if segment then
			return segment, value
		end
	end
end

return Queue
