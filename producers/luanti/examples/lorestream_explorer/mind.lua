-- Where an explorer goes next. Pure: no engine, no service.
--
-- The land is divided into squares. A memory of a walk: metadata {squares = {"X,Z", …}, outcome = "walked"}, with the
-- place where it ended. A memory of a place that could not be reached: {squares = {"X,Z"}, outcome = "blocked"}.

-- Argument: lorestream_agents.weight.
local weight = ...
local mind = {}

-- The side of a square, and how far an explorer asks and looks for new land, in nodes.
mind.SIDE = 4
mind.FAR = 40
-- A square walked this long ago is half as interesting as an unknown one, in seconds. A way that was blocked may be
-- open later.
mind.HALF_LIFE_S = 86400
mind.BLOCKED_HALF_LIFE_S = 1200
-- What a full turn costs, in nodes of way.
mind.TURN = 2
-- For how many of the places that seem the best he looks for a way.
mind.LOOKS = 12
-- Without memories: the length of a walk in nodes at most, and how many directions he considers.
mind.STROLL = 18
mind.DIRECTIONS = 16

-- The square of a position, as a key and its two numbers.
function mind.square(pos)
	local x, z = math.floor(pos.x / mind.SIDE), math.floor(pos.z / mind.SIDE)
	return x .. "," .. z, x, z
end

-- The middle of the square with these numbers.
function mind.middle(x, z, y)
	return {x = (x + 0.5) * mind.SIDE - 0.5, y = y, z = (z + 0.5) * mind.SIDE - 0.5}
end

-- The search before a decision: what he knows of the land around, the newest first.
function mind.about_land(pos)
	return {
		filters = {outcome = {["in"] = {"walked", "blocked"}}},
		near = {x = pos.x, z = pos.z, radius = mind.FAR},
		k = 100,
	}
end

-- How interesting each known square is, from 0 (just been there) to 1 (as good as unknown).
function mind.interest(memories, now_s)
	local interest = {}
	for _, memory in ipairs(memories) do
		local half_life = memory.metadata.outcome == "blocked" and mind.BLOCKED_HALF_LIFE_S or mind.HALF_LIFE_S
		local known = weight(memory, now_s, half_life)
		for _, square in ipairs(type(memory.metadata.squares) == "table" and memory.metadata.squares or {}) do
			interest[square] = math.min(interest[square] or 1, 1 - known)
		end
	end
	return interest
end

local function by_score(a, b)
	return a.score > b.score
end

-- The places to go to, the best first: near, unknown or long not seen, and straight on rather than back.
-- heading: the direction of the last walk {x, z}, or nil. random(): 0 to 1, decides between equal ones. way(place): the
-- length of the way to a place in nodes, or nil if there is none.
function mind.choices(memories, pos, heading, now_s, random, way)
	local interest = mind.interest(memories, now_s)
	local _, here_x, here_z = mind.square(pos)
	local reach = math.floor(mind.FAR / mind.SIDE)
	local found = {}
	for x = here_x - reach, here_x + reach do
		for z = here_z - reach, here_z + reach do
			local place = mind.middle(x, z, pos.y)
			local way_x, way_z = place.x - pos.x, place.z - pos.z
			local far = math.sqrt(way_x * way_x + way_z * way_z)
			if (x ~= here_x or z ~= here_z) and far <= mind.FAR then
				local turn = 0
				if heading then
					turn = (1 - (way_x * heading.x + way_z * heading.z) / far) / 2 * mind.TURN
				end
				place.interest, place.cost = interest[x .. "," .. z] or 1, turn + random()
				place.score = place.interest / (far + place.cost)
				found[#found + 1] = place
			end
		end
	end
	table.sort(found, by_score)
	local best = {}
	for i = 1, math.min(mind.LOOKS, #found) do
		local place = found[i]
		local length = way(place)
		place.score = length and place.interest / (length + place.cost) or 0
		best[i] = place
	end
	table.sort(best, by_score)
	return best
end

-- Where one goes who remembers no more than his last steps: straight on, and not where he has just been.
function mind.stroll(memories, pos, heading, now_s, random)
	local interest, found = mind.interest(memories, now_s), {}
	local turn = random()
	for i = 1, mind.DIRECTIONS do
		local angle = (i + turn) / mind.DIRECTIONS * 2 * math.pi
		local far = mind.STROLL * (1 + random()) / 2
		local place = {x = pos.x + math.cos(angle) * far, y = pos.y, z = pos.z + math.sin(angle) * far}
		local straight = heading and math.cos(angle) * heading.x + math.sin(angle) * heading.z or 0
		place.score = straight + 2 * (interest[(mind.square(place))] or 1) + 0.4 * random()
		found[i] = place
	end
	table.sort(found, by_score)
	return found
end

-- The direction from one position to another, as {x, z} of length 1; nil if they are the same.
function mind.direction(from, to)
	local x, z = to.x - from.x, to.z - from.z
	local length = math.sqrt(x * x + z * z)
	return length > 0 and {x = x / length, z = z / length} or nil
end

-- The text and metadata of a memory of a walk that ended at pos, or of a place pos that could not be reached.
function mind.memory(squares, pos, outcome)
	local texts = {walked = "I walked through this land", blocked = "I found no way to this place"}
	return texts[outcome], {pos = pos, squares = squares, outcome = outcome}
end

return mind
