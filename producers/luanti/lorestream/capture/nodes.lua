-- Captures digging and placing. Both are frequent, so repeated events are folded into one.

return function(recorder, enabled)
	local core = recorder.core

	local function record(kind, pos, node, player)
		local name = recorder:player_name(player)
		if name and pos and node then
			local event = recorder:deed(kind, name, pos, {node = node.name})
			recorder:fold_deed(event, node.name, "count", 1)
		end
	end

	if enabled.dig then
		core.register_on_dignode(recorder:wrap("dig", function(pos, node, digger)
			record("dig", pos, node, digger)
		end))
	end
	if enabled.place then
		core.register_on_placenode(recorder:wrap("place", function(pos, node, placer)
			record("place", pos, node, placer)
		end))
	end
end
