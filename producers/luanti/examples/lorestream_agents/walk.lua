-- Positions to stand on, paths, sight: what a character needs from the engine's map.

return function(route)
	local walk = {}

	-- How far around the direct way the path finder looks for a path, in nodes: first near it, then for a long way round.
	local SEARCH, SEARCH_FAR = 16, 64
	local MAX_JUMP, MAX_DROP = 1, 3
	-- How many places beside a target are tried before it counts as unreachable.
	local TRIES = 2
	-- How many nodes are looked at closely, the nearest first.
	local MAX_LOOKS = 40
	local EYE = 1

	local function definition(pos)
		local node = core.get_node_or_nil(pos)
		return node and core.registered_nodes[node.name]
	end

	-- Lava can be seen, and is walked around; water is waded through.
	local function is_free(pos)
		local def = definition(pos)
		return def and not def.walkable and ((def.liquidtype or "none") == "none" or (def.damage_per_second or 0) == 0)
	end

	-- Whether a character can have his feet in this node. The engine's path finder leads through gaps one node high:
	-- there he crouches.
	function walk.can_pass(pos)
		local ground = definition(vector.offset(pos, 0, -1, 0))
		return ground and ground.walkable and is_free(pos) or false
	end

	-- Whether he can stand upright there.
	function walk.can_stand(pos)
		return walk.can_pass(pos) and is_free(vector.offset(pos, 0, 1, 0)) or false
	end

	-- The position to stand on at x, z nearest to the height y, or nil.
	function walk.stand(x, y, z)
		for _, up in ipairs({0, -1, 1, -2, 2, -3, 3}) do
			local pos = vector.new(x, math.floor(y + 0.5) + up, z)
			if walk.can_stand(pos) then
				return pos
			end
		end
	end

	-- The damage per second in a node at a position.
	function walk.harm(pos)
		local def = definition(pos)
		return def and def.damage_per_second or 0
	end

	-- Positions to stand on from which the target is within reach, the nearest to `from` first.
	local function beside(target, reach, from)
		local found = {}
		local wide = math.floor(reach)
		for x = -wide, wide do
			for z = -wide, wide do
				for y = -2, 1 do
					local pos = vector.offset(target, x, y, z)
					if vector.distance(pos, target) <= reach and walk.can_stand(pos) then
						found[#found + 1] = pos
					end
				end
			end
		end
		table.sort(found, function(a, b)
			return vector.distance(a, from) < vector.distance(b, from)
		end)
		return found
	end

	local function find(from, to, search)
		return core.find_path(from, to, search or SEARCH, MAX_JUMP, MAX_DROP, "A*_noprefetch")
	end

	-- A path from a position to one from which the target is within reach. dangers: see route.lua. Returns a list of
	-- positions, or nil and "unreachable", "unloaded" (the map there is not in memory) or, with dangers.strict,
	-- "dangerous".
	function walk.path(from, target, reach, dangers)
		target = vector.round(target)
		if vector.distance(from, target) <= reach then
			return {}
		elseif not core.get_node_or_nil(target) then
			core.load_area(from, target)
			if not core.get_node_or_nil(target) then
				return nil, "unloaded"
			end
		end
		for i, pos in ipairs(beside(target, reach, from)) do
			local direct = i <= TRIES and find(from, pos)
			if not direct and i == 1 and vector.distance(from, pos) > SEARCH then
				direct = find(from, pos, SEARCH_FAR)
			end
			local path = direct and route.around(direct, dangers, find, walk.stand)
			if path and dangers.strict and route.passed(path, dangers)[1] then
				return nil, "dangerous"
			elseif path then
				return path
			end
		end
		return nil, "unreachable"
	end

	-- The nodes of these names or groups that can be seen from a position, the nearest first.
	function walk.look(from, names, radius)
		local low, high = vector.offset(from, -radius, -4, -radius), vector.offset(from, radius, 6, radius)
		local all = core.find_nodes_in_area(low, high, names)
		table.sort(all, function(a, b)
			return vector.distance(a, from) < vector.distance(b, from)
		end)
		local eye = vector.offset(from, 0, EYE, 0)
		local seen = {}
		for i = 1, math.min(#all, MAX_LOOKS) do
			local clear, blocked_at = core.line_of_sight(eye, all[i])
			if vector.distance(all[i], from) <= radius and (clear or vector.equals(blocked_at, all[i])) then
				seen[#seen + 1] = all[i]
			end
		end
		return seen
	end

	return walk
end
