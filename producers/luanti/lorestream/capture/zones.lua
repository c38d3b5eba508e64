-- Records in which zone of the map players are: cubes with an edge of SIZE nodes. Positions are sampled once a second.
-- Only a zone in which a player is found twice in a row is recorded, so that someone who walks along a border, or flies
-- through many zones, makes few events.

local SIZE = 64
local INTERVAL_US = 1e6

return function(recorder, enabled)
	local core = recorder.core
	-- By player name: {zone, next}: the zone that was recorded last, and another one in which the player was just found.
	local seen = {}
	local due_us = 0

	local function biome_at(pos)
		local data = core.get_biome_data and core.get_biome_data(pos)
		return data and core.get_biome_name(data.biome) or nil
	end

	local function visit(name, pos)
		local floor = math.floor
		local zone = ("%d,%d,%d"):format(floor(pos.x / SIZE), floor(pos.y / SIZE), floor(pos.z / SIZE))
		local state = seen[name]
		if not state then
			-- Where a player joins is in the event of joining.
			seen[name] = {zone = zone}
		elseif zone == state.zone then
			state.next = nil
		elseif zone ~= state.next then
			state.next = zone
		else
			local data = {zone = zone, from = state.zone, biome = biome_at(pos)}
			state.zone, state.next = zone, nil
			recorder:write(recorder:deed("zone", name, pos, data))
		end
	end

	local sample = recorder:wrap("zones", function(now_us)
		due_us = now_us + INTERVAL_US
		local before = seen
		seen = {}
		for _, player in ipairs(core.get_connected_players()) do
			local name = recorder:player_name(player)
			if name then
				seen[name] = before[name]
				visit(name, player:get_pos())
			end
		end
	end)

	-- Call it in each server step.
	return function(now_us)
		if enabled.zone and now_us >= due_us then
			sample(now_us)
		end
	end
end
