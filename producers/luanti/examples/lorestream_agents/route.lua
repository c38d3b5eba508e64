-- A way that avoids known dangers. Pure: the path finder is passed in.

local route = {}

-- A path that comes this close to a danger passes it, in nodes.
route.TOUCH = 2.5
-- A detour may be this much longer than the way through a danger, in nodes for each point of damage.
route.NODES_PER_DAMAGE = 20
local RING = 12
local DIRECTIONS = 8

-- The dangers that a path passes, and their damage together.
function route.passed(path, dangers)
	local found, damage = {}, 0
	for _, danger in ipairs(dangers) do
		for _, node in ipairs(path) do
			local apart = math.sqrt((node.x - danger.pos.x) ^ 2 + (node.z - danger.pos.z) ^ 2)
			if apart <= route.TOUCH and math.abs(node.y - danger.pos.y) <= 2 then
				found[#found + 1] = danger
				damage = damage + danger.damage
				break
			end
		end
	end
	return found, damage
end

local function price(path, dangers)
	local _, damage = route.passed(path, dangers)
	return #path + damage * route.NODES_PER_DAMAGE
end

local function joined(first, second)
	local path = {}
	for _, part in ipairs({first, second}) do
		for i = path[1] and 2 or 1, #part do
			path[#path + 1] = part[i]
		end
	end
	return path
end

-- The cheapest way along a path or around the first danger that it passes. find(a, b): a path or nil. stand(x, y, z): a
-- position to stand on near that height, or nil.
function route.around(path, dangers, find, stand)
	local touched = route.passed(path, dangers)
	if not touched[1] then
		return path
	end
	local best, from, to = path, path[1], path[#path]
	local least = price(best, dangers)
	local centre = touched[1].pos
	for i = 1, DIRECTIONS do
		local angle = i / DIRECTIONS * 2 * math.pi
		local x, z = centre.x + RING * math.cos(angle), centre.z + RING * math.sin(angle)
		local between = stand(math.floor(x + 0.5), centre.y, math.floor(z + 0.5))
		local first = between and find(from, between)
		local second = first and find(between, to)
		if second then
			local way = joined(first, second)
			local cost = price(way, dangers)
			if cost < least then
				best, least = way, cost
			end
		end
	end
	return best
end

return route
