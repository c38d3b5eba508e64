-- Records what players say and do, and what happens to them: chat, /me, crafting, damage, death, respawn, joining,
-- leaving, and what the engine reports as cheating.

return function(recorder, enabled, names, fights)
	local core = recorder.core

	local function record(kind, player, data)
		local name = recorder:player_name(player)
		if name then
			recorder.folds:close_agent("player:" .. name)
			recorder:write(recorder:deed(kind, name, player:get_pos(), data))
		end
	end

	core.register_on_joinplayer(recorder:wrap("join", function(player, last_login)
		names:meet(player:get_player_name())
		if enabled.join then
			record("join", player, {first_time = last_login == nil})
		end
	end))

	local function leave(player)
		local name = recorder:player_name(player)
		if not name then
			return
		end
		recorder.folds:close_agent("player:" .. name)
		if enabled.leave then
			recorder:write(recorder:deed("leave", name, player:get_pos(), nil))
		end
	end
	core.register_on_leaveplayer(recorder:wrap("leave", leave))

	local function say(kind, name, message)
		local player = name ~= "" and core.get_player_by_name(name)
		if name == "" or recorder.privacy:opted_out(name) or player and not core.check_player_privs(name, {shout = true}) then
			return
		end
		message = names:hide(recorder.encode.clean(core, message))
		if message ~= "" then
			recorder:write(recorder:deed(kind, name, player and player:get_pos(), {message = message}))
		end
	end

	-- Handlers of chat are called in the order in which they were registered, until one swallows the message. This one
	-- is registered in the first server step, after the handlers of all mods, so that it sees only what is said.
	local function listen()
		core.register_on_chat_message(recorder:wrap("chat", function(name, message)
			if message:sub(1, 1) ~= "/" then
				say("chat", name, message)
			end
		end))
	end

	-- /me is a command, which other mods may refuse or replace: record it after it has succeeded.
	local function listen_to_me()
		local command = core.registered_chatcommands.me
		local func = command and command.func
		if func then
			local said = recorder:wrap("/me", say)
			command.func = function(name, param, ...)
				local ok, text = func(name, param, ...)
				if ok ~= false and type(param) == "string" then
					said("me", name, param)
				end
				return ok, text
			end
		end
	end

	core.after(0, recorder.guard.wrap("listening to chat", function()
		if enabled.chat then
			listen()
		end
		if enabled.me then
			listen_to_me()
		end
	end))

	if enabled.craft then
		core.register_on_craft(recorder:wrap("craft", function(itemstack, player)
			local name = recorder:player_name(player)
			if not name or itemstack:is_empty() then
				return
			end
			local item = itemstack:get_name()
			local event = recorder:deed("craft", name, player:get_pos(), {item = item})
			recorder:fold_event(event, item, "count", itemstack:get_count())
		end))
	end

	core.register_on_punchplayer(recorder:wrap("punch", function(player, hitter)
		fights.punch(hitter, player)
	end))

	core.register_on_player_hpchange(recorder:wrap("damage", function(player, hp_change, reason)
		if hp_change < 0 then
			reason = reason or {}
			fights.damage(player, reason.object, -hp_change, reason.type, reason.node)
		end
	end), false)

	core.register_on_dieplayer(recorder:wrap("death", function(player, reason)
		reason = reason or {}
		fights.death(player, reason.object, reason.type, reason.node)
	end))

	if enabled.respawn then
		core.register_on_respawnplayer(recorder:wrap("respawn", function(player)
			record("respawn", player, nil)
		end))
	end

	if enabled.cheat then
		core.register_on_cheat(recorder:wrap("cheat", function(player, cheat)
			local name = recorder:player_name(player)
			local kind = name and type(cheat) == "table" and cheat.type
			if type(kind) == "string" then
				local event = recorder:deed("cheat", name, player:get_pos(), {cheat = kind})
				recorder:fold_event(event, kind, "count", 1)
			end
		end))
	end

	-- At shutdown, the engine calls no leave handlers for players who are online.
	return {leave_all = function()
		for _, player in ipairs(core.get_connected_players()) do
			leave(player)
		end
	end}
end
