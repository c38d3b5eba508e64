-- Where a character goes who knows no better place: straight on, and not where he has just looked. Pure.

local wander = {}

-- How far one leg of the way is, in nodes.
wander.NEAR, wander.FAR = 10, 18
local DIRECTIONS = 16

-- Points around a position as {x, z}, in all directions. random(): 0 to 1.
function wander.points(from, random)
	local points = {}
	local turn = random() * 2 * math.pi
	for i = 1, DIRECTIONS do
		local angle = turn + i / DIRECTIONS * 2 * math.pi
		local length = wander.NEAR + (wander.FAR - wander.NEAR) * random()
		points[i] = {
			x = math.floor(from.x + math.cos(angle) * length + 0.5),
			z = math.floor(from.z + math.sin(angle) * length + 0.5),
		}
	end
	return points
end

-- Sorts points, the best first. options: from, heading ({x, z} of the last leg, or nil), looked (memories of places
-- where he saw nothing), sight (how far he sees), now_s, half_life_s (after this time a look counts half), random.
function wander.sort(points, options)
	local from, heading = options.from, options.heading
	local length = heading and math.sqrt(heading.x ^ 2 + heading.z ^ 2) or 0
	for _, point in ipairs(points) do
		local way_x, way_z = point.x - from.x, point.z - from.z
		local way = math.max(1, math.sqrt(way_x ^ 2 + way_z ^ 2))
		local straight = length > 0 and (way_x * heading.x + way_z * heading.z) / way / length or 0
		local known = 0
		for _, memory in ipairs(options.looked) do
			local apart = math.sqrt((memory.pos.x - point.x) ^ 2 + (memory.pos.z - point.z) ^ 2)
			if apart < options.sight then
				local share = 0.5 ^ (math.max(0, options.now_s - memory.timestamp) / options.half_life_s)
				known = math.max(known, share * (1 - apart / options.sight))
			end
		end
		point.score = 0.5 * straight - 2 * known + 0.2 * options.random()
	end
	table.sort(points, function(a, b)
		return a.score > b.score
	end)
	return points
end

return wander
