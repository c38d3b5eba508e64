-- The watch of one guard: whom he sees, whom he knows, who hits him, and what he remembers of each visit.
-- Pure: the engine's part says who is in sight, and who hits whom.

local Watch = {}
Watch.__index = Watch

-- Who is out of sight for this long is gone, in seconds.
Watch.GONE_S = 10
-- The first blow is remembered at once: a server may be killed. Further ones are remembered together, after this time.
Watch.NOTE_S = 5

-- options: mind, clock() in seconds, remember(text, metadata).
function Watch.new(options)
	local self = setmetatable({visits = {}}, Watch)
	for key, value in pairs(options) do
		self[key] = value
	end
	return self
end

-- Who is in sight now: a list of names. ask(question, …) returns the memories that answer each question; it may wait.
-- Remembers the visits of those who are gone, and recognises those who are new. Returns the names of the new ones whom
-- he knows as attackers.
function Watch:look(names, ask)
	local now_s, new, questions = self.clock(), {}, {}
	for _, name in ipairs(names) do
		local visit = self.visits[name]
		if not visit then
			visit = {damage = 0, open = 0}
			self.visits[name] = visit
		end
		visit.seen_s = now_s
		if visit.known == nil then
			visit.known = false
			new[#new + 1] = name
			questions[#questions + 1] = self.mind.about_visitor(name)
		end
	end
	self:note(now_s)
	local known = {}
	if #new > 0 then
		local answers = {ask(unpack(questions))}
		for i, name in ipairs(new) do
			if self.mind.is_dangerous(answers[i], self.clock()) then
				known[#known + 1] = name
				-- He may have gone while the guard was thinking.
				if self.visits[name] then
					self.visits[name].known = true
				end
			end
		end
	end
	return known
end

-- Remembers blows, and the visits in peace of those who are gone.
function Watch:note(now_s)
	local names = {}
	for name in pairs(self.visits) do
		names[#names + 1] = name
	end
	table.sort(names)
	for _, name in ipairs(names) do
		local visit = self.visits[name]
		local gone = now_s - visit.seen_s > Watch.GONE_S
		if visit.open > 0 and (gone or now_s - visit.noted_s >= Watch.NOTE_S) then
			self:note_blows(name, visit, now_s)
		end
		if gone then
			self.visits[name] = nil
			-- Whom he drove away before a blow has shown nothing.
			if visit.damage == 0 and not visit.known then
				self.remember(self.mind.memory(name, 0))
			end
		end
	end
end

function Watch:note_blows(name, visit, now_s)
	self.remember(self.mind.memory(name, visit.open))
	visit.open, visit.noted_s = 0, now_s
end

-- Somebody hits the guard, or a person whom he guards.
function Watch:hit(name, damage)
	local visit = self.visits[name] or {damage = 0, open = 0}
	self.visits[name] = visit
	visit.seen_s = self.clock()
	visit.damage, visit.open = visit.damage + damage, visit.open + damage
	if not visit.noted_s then
		self:note_blows(name, visit, visit.seen_s)
	end
end

-- Whether the guard fights this visitor: he knows him as an attacker, or is attacked by him now.
function Watch:fights(name)
	local visit = self.visits[name]
	return visit ~= nil and (visit.known == true or visit.damage >= self.mind.ALERT)
end

return Watch
