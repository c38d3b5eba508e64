-- What players dig and place. Both come in floods, so they are folded.

return function(recorder, wanted)
	local core = recorder.core

	local function record(kind, pos, node, player)
		local name = recorder:player_name(player)
		if name and pos and node then
			local event = recorder:deed(kind, name, pos, {node = node.name})
			recorder:fold_deed(event, node.name, "count", 1)
		end
	end

	if wanted.dig then
		core.register_on_dignode(recorder:guard("dig", function(pos, node, digger)
			record("dig", pos, node, digger)
		end))
	end
	if wanted.place then
		core.register_on_placenode(recorder:guard("place", function(pos, node, placer)
			record("place", pos, node, placer)
		end))
	end
end
