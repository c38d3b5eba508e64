-- Records what happens to items: eating, picking up, dropping, and moving them between inventories. The engine's
-- functions are wrapped and the stacks compared, so that only what really happened is recorded: a full inventory or
-- another mod may prevent it.

return function(recorder, enabled)
	local core = recorder.core

	local function fold(kind, name, pos, item, count, more)
		local data = {item = item}
		for key, value in pairs(more or {}) do
			data[key] = value
		end
		local subject = item .. "|" .. (data.node or data.from or "")
		recorder:fold_event(recorder:deed(kind, name, pos, data), subject, "count", count)
	end

	-- {item, count} of a stack or an item string, or nil for an empty one.
	local content = recorder.guard.wrap("reading an item stack", function(stack)
		stack = stack and ItemStack(stack)
		if stack and not stack:is_empty() then
			return {item = stack:get_name(), count = stack:get_count()}
		end
	end)

	-- How many items of `before` are no longer in `after`, both from content().
	local function lost(before, after)
		return before.count - (after and after.item == before.item and after.count or 0)
	end

	local record = recorder:wrap("items", function(kind, object, before, after)
		local name = before and recorder:player_name(object)
		local count = name and lost(before, content(after)) or 0
		if count > 0 then
			fold(kind, name, object:get_pos(), before.item, count)
		end
	end)

	-- Records an engine's function that was called, and returns its results. `left`: what is left of the stack if the
	-- function returns nil.
	local function finish(kind, object, before, left, ...)
		local after = (...)
		if after == nil then
			after = left
		end
		if after ~= nil then
			record(kind, object, before, after)
		end
		return ...
	end

	local function wrap_eating()
		local eat = core.do_item_eat
		core.do_item_eat = function(hp_change, replace_with_item, stack, user, ...)
			local before = content(stack)
			return finish("eat", user, before, stack, eat(hp_change, replace_with_item, stack, user, ...))
		end
	end

	-- Returns nil if the item could not be dropped.
	local function wrap_dropping()
		local drop = core.item_drop
		core.item_drop = function(stack, dropper, ...)
			local before = content(stack)
			return finish("drop", dropper, before, nil, drop(stack, dropper, ...))
		end
	end

	-- A dropped item is picked up by punching its entity, whose field itemstring is what is left.
	local function wrap_pickup(prototype)
		local original = prototype.on_punch
		prototype.on_punch = function(self, puncher, ...)
			local before = content(self.itemstring)
			local result = original(self, puncher, ...)
			record("pickup", puncher, before, self.itemstring)
			return result
		end
	end

	-- In VoxeLibre items are picked up by walking near. The handlers are asked first: look in the next step.
	local asked = recorder.guard.wrap("an item near a player", function(_, player, _, object)
		local entity = object:get_luaentity()
		local before = entity and content(entity.itemstring)
		core.after(0, function()
			record("pickup", player, before, entity.itemstring)
		end)
	end)

	-- Moves between a player's inventory and another one, seen in this server step. The engine reports each of them for
	-- the player's inventory, and for that of a node too where the node has handlers: one event is made from both.
	local moves = {}

	local settle = recorder:wrap("inventory moves", function()
		local seen = moves
		moves = {}
		for _, move in ipairs(seen) do
			fold(move.kind, move.name, move.pos, move.item, move.count, {node = move.node})
		end
	end)

	-- node and its pos, or nil and the player's pos.
	local function moved(kind, name, pos, stack, node)
		local what = content(stack)
		if not what then
			return
		end
		for _, move in ipairs(moves) do
			if not move.both and (move.node == nil) == (node ~= nil) and move.kind == kind and move.name == name
				and move.item == what.item and move.count == what.count then
				move.both = true
				if node then
					move.node, move.pos = node, pos
				end
				return
			end
		end
		if #moves == 0 then
			core.after(0, settle)
		end
		moves[#moves + 1] = {kind = kind, name = name, pos = pos, item = what.item, count = what.count, node = node}
	end

	local function wrap_node(definition)
		for key, kind in pairs({on_metadata_inventory_put = "store", on_metadata_inventory_take = "take"}) do
			local original = definition[key]
			if enabled[kind] and original then
				local note = recorder:wrap("inventory of a node", function(pos, _, _, stack, player)
					local name = recorder:player_name(player)
					if name then
						moved(kind, name, pos, stack, core.get_node(pos).name)
					end
				end)
				-- Definitions refuse ordinary assignments after they are registered.
				rawset(definition, key, function(...)
					note(...)
					return original(...)
				end)
			end
		end
	end

	local KIND_OF_ACTION = {put = "take", take = "store"}

	core.register_on_player_inventory_action(recorder:wrap("inventory", function(player, action, inventory, info)
		local name = recorder:player_name(player)
		if not name then
			return
		end
		local kind = KIND_OF_ACTION[action]
		if kind and enabled[kind] then
			moved(kind, name, player:get_pos(), info.stack)
		elseif action == "move" and enabled.move and info.from_list ~= info.to_list then
			local what = content(inventory:get_stack(info.to_list, info.to_index))
			if what then
				fold("move", name, player:get_pos(), what.item, info.count, {from = info.from_list, to = info.to_list})
			end
		end
	end))

	core.register_on_mods_loaded(recorder.guard.wrap("wrapping item functions", function()
		if enabled.eat then
			wrap_eating()
		end
		if enabled.drop then
			wrap_dropping()
		end
		local item_entity = core.registered_entities["__builtin:item"]
		if enabled.pickup and item_entity and item_entity.on_punch then
			wrap_pickup(item_entity)
		end
		local mcl_item_entity = rawget(_G, "mcl_item_entity")
		if enabled.pickup and mcl_item_entity and mcl_item_entity.register_on_pickup then
			mcl_item_entity.register_on_pickup(asked)
		end
		for _, definition in pairs(core.registered_nodes) do
			wrap_node(definition)
		end
	end))

	-- At shutdown, there is no next step for what was moved in the last one.
	return {settle = settle}
end
