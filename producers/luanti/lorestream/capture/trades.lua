-- Records trades in the formspecs of trading mods. A trade is a submitted form of a shop after which the player has
-- less of some items and more of others. Mods with other ways to trade call lorestream.emit("trade", …).

-- Parts of the names of forms and nodes: "smartshop:shop", "currency:barter", "easyvend:vendor", "mobs_npc:trade".
local TRADING = {"shop", "trad", "barter", "vend", "exchange", "market"}

return function(recorder, enabled)
	if not enabled.trade then
		return
	end
	local core = recorder.core

	local function is_trading(name)
		for _, part in ipairs(TRADING) do
			if name:find(part, 1, true) then
				return true
			end
		end
	end

	-- {[item name] = count} of what the player carries.
	local function carried(player)
		local counts = {}
		for _, stack in ipairs(player:get_inventory():get_list("main") or {}) do
			if not stack:is_empty() then
				local item = stack:get_name()
				counts[item] = (counts[item] or 0) + stack:get_count()
			end
		end
		return counts
	end

	-- What there is more of in `many` than in `few`, as item strings; a single one is not a list. nil for nothing.
	local function surplus(many, few)
		local items = {}
		for item, count in pairs(many) do
			local more = count - (few[item] or 0)
			if more > 0 then
				items[#items + 1] = more == 1 and item or item .. " " .. more
			end
		end
		table.sort(items)
		return items[2] and items or items[1]
	end

	local snapshot = recorder.guard.wrap("reading an inventory", function(player)
		return recorder:player_name(player) and carried(player)
	end)

	local compare = recorder:wrap("trade", function(player, before, pos, place)
		local name = before and recorder:player_name(player)
		if not name then
			return
		end
		local after = carried(player)
		local gave, got = surplus(before, after), surplus(after, before)
		if gave and got then
			local event = recorder:deed("trade", name, pos or player:get_pos(), {gave = gave, got = got, place = place})
			local subject = core.write_json({gave, got}) .. place
			recorder:fold_event(event, subject, "count", 1)
		end
	end)

	local function wrap_node(node_name, definition)
		local original = definition.on_receive_fields
		if original and is_trading(node_name) then
			rawset(definition, "on_receive_fields", function(pos, formname, fields, sender, ...)
				local before = snapshot(sender)
				local result = original(pos, formname, fields, sender, ...)
				compare(sender, before, pos, node_name)
				return result
			end)
		end
	end

	core.register_on_mods_loaded(recorder.guard.wrap("wrapping shops", function()
		for name, definition in pairs(core.registered_nodes) do
			wrap_node(name, definition)
		end
	end))

	-- The newest handler of forms is called first: in the first server step, this one becomes the newest. What the others
	-- did is seen in the next step.
	core.after(0, recorder.guard.wrap("listening to forms", function()
		core.register_on_player_receive_fields(recorder:wrap("form", function(player, formname)
			if is_trading(formname) then
				local before = snapshot(player)
				core.after(0, function()
					compare(player, before, nil, formname:match("^[%w_]+:?[%w_]*"))
				end)
			end
		end))
	end))
end
