-- Where a character goes who knows no better place: to the nearest land that he has not looked at. Pure.

-- Argument: weight.lua.
local weight = ...
local wander = {}

-- How far away the points are that he considers, in nodes.
wander.LEGS = {{10, 18}, {24, 36}, {44, 60}}
local DIRECTIONS = 16
-- A point that is so far away (in nodes) is worth half as much as one here, and so is one that is so far from home.
local WAY, HOME = 16, 60
-- How much better it is to go straight on than to turn.
local STRAIGHT = 0.4

-- Points around a position as {x, z}, in all directions. random(): 0 to 1.
function wander.points(from, random)
	local points = {}
	local turn = random() * 2 * math.pi
	for _, leg in ipairs(wander.LEGS) do
		for i = 1, DIRECTIONS do
			local angle = turn + i / DIRECTIONS * 2 * math.pi
			local length = leg[1] + (leg[2] - leg[1]) * random()
			points[#points + 1] = {
				x = math.floor(from.x + math.cos(angle) * length + 0.5),
				z = math.floor(from.z + math.sin(angle) * length + 0.5),
			}
		end
	end
	return points
end

local function apart(a, b)
	return math.sqrt((a.x - b.x) ^ 2 + (a.z - b.z) ^ 2)
end

-- Sorts points, best first. options: from, home, heading ({x, z} of the last leg, or nil), looked (memories of
-- places where he saw nothing), sight (how far he sees), now_s, half_life_s (then a look counts half), random.
function wander.sort(points, options)
	local from, heading = options.from, options.heading
	local length = heading and math.sqrt(heading.x ^ 2 + heading.z ^ 2) or 0
	for _, point in ipairs(points) do
		local way_x, way_z = point.x - from.x, point.z - from.z
		local way = math.max(1, apart(point, from))
		local straight = length > 0 and (way_x * heading.x + way_z * heading.z) / way / length or 0
		local known = 0
		for _, memory in ipairs(options.looked) do
			local overlap = 1 - apart(memory.pos, point) / options.sight
			if overlap > 0 then
				known = math.max(known, weight(memory, options.now_s, options.half_life_s) * math.min(1, 2 * overlap))
			end
		end
		point.score = (1 - 0.95 * known) * (1 + STRAIGHT * straight) * (0.9 + 0.2 * options.random())
			/ (1 + way / WAY) / (1 + apart(options.home, point) / HOME)
	end
	table.sort(points, function(a, b)
		return a.score > b.score
	end)
	return points
end

return wander
