-- The erasures in a spool: one for each subject, because a later one erases all that an earlier one would. Those that
-- the API key may not make are held apart from the queue, so that the events behind them are sent. Their files stay.

local Erasures = {}
Erasures.__index = Erasures

-- queue: the segments in sending order. upkeep: takes the files of erasures that are not needed any more.
function Erasures.new(queue, upkeep)
	return setmetatable({queue = queue, upkeep = upkeep, newest = {}, held = {}}, Erasures)
end

-- Whether this erasure is the last in the queue: another one behind it would erase nothing more.
function Erasures:is_last(subject)
	local last = self.queue.last
	return last ~= nil and last.subject == subject
end

-- Call it for each erasure that is added to the queue. Removes an earlier one of the same subject, unless that is being
-- sent.
function Erasures:add(segment)
	local earlier = self.newest[segment.subject]
	self.newest[segment.subject] = segment
	if not earlier or earlier.taken then
		return
	elseif not earlier.removed then
		self.queue:remove(earlier)
	end
	for n, held in ipairs(self.held) do
		if held == earlier then
			table.remove(self.held, n)
			break
		end
	end
	self.upkeep:release(earlier)
end

-- Call it for each erasure that is done.
function Erasures:done(segment)
	if self.newest[segment.subject] == segment then
		self.newest[segment.subject] = nil
	end
end

-- Takes an erasure out of the queue. After a restart it has its place in the queue again.
function Erasures:hold(segment)
	self.queue:remove(segment)
	segment.taken = nil
	if self.newest[segment.subject] == segment then
		self.held[#self.held + 1] = segment
	else
		self.upkeep:release(segment) -- a later one was added while this one was being sent
	end
end

-- Puts the erasure that was held first at the end of the queue.
function Erasures:retry()
	local segment = table.remove(self.held, 1)
	if segment then
		segment.removed = nil
		self.queue:push(segment)
	end
end

return Erasures
