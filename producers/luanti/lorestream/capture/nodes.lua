-- Records digging, placing, and attempts in protected places. All are frequent, so repeated events are folded into one.

return function(recorder, enabled)
	local core = recorder.core

	local function record(kind, pos, name, node)
		if name and pos and node then
			recorder:fold_event(recorder:deed(kind, name, pos, {node = node.name}), node.name, "count", 1)
		end
	end

	if enabled.dig then
		core.register_on_dignode(recorder:wrap("dig", function(pos, node, digger)
			record("dig", pos, recorder:player_name(digger), node)
		end))
	end
	if enabled.place then
		core.register_on_placenode(recorder:wrap("place", function(pos, node, placer)
			record("place", pos, recorder:player_name(placer), node)
		end))
	end
	if enabled.protection then
		core.register_on_protection_violation(recorder:wrap("protection", function(pos, name)
			-- Machines act under the name of their owner: record only players who are there.
			local player = core.get_player_by_name(name)
			record("protection", pos, player and recorder:player_name(player), core.get_node(pos))
		end))
	end
end
