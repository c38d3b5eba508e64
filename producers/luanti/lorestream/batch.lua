-- A segment on its way to the gateway. It is sent whole. If the gateway refuses it whole, it is sent in halves, and
-- these in halves again, until the event that is refused is alone: it then costs no other event.

-- segment.lua, passed in by init.lua.
local Segment = ...

local Batch = {}
Batch.__index = Batch

-- segment: from Spool:take(). proven: whether the gateway has accepted anything since the segment was taken: before
-- that, its refusals may be due to the configuration instead of an event.
function Batch.new(segment)
	return setmetatable({segment = segment, pieces = {{body = segment.body, count = segment.count}}, proven = false},
		Batch)
end

-- The piece to send next: {body, count}. body: its lines joined; count: their number.
function Batch:piece()
	return self.pieces[#self.pieces]
end

-- Whether it is sent in more than one piece.
function Batch:is_split()
	return self.split == true
end

-- The lines of the next piece.
function Batch:lines()
	return Segment.lines_in(self:piece().body)
end

-- Splits the next piece into two, the first half first. Returns false if it is a single event.
function Batch:halve()
	local lines = self:lines()
	if #lines < 2 then
		return false
	end
	local middle = math.floor(#lines / 2)
	local function piece(first, last)
		return {body = Segment.join(lines, first, last), count = last - first + 1}
	end
	self.pieces[#self.pieces] = piece(middle + 1, #lines)
	self.pieces[#self.pieces + 1] = piece(1, middle)
	self.split = true
	return true
end

-- Removes the next piece, which was accepted or given up. Returns whether it was the last.
function Batch:next_piece()
	table.remove(self.pieces)
	return #self.pieces == 0
end

return Batch
