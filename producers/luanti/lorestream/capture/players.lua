-- Captures events of players: chat, craft, punch, damage, death, join, leave.

-- Player names shorter than this are replaced only in their exact case, because "i" is also a word.
local SHORT_NAME = 3

return function(recorder, enabled)
	local core = recorder.core
	-- All players since the server started: messages also mention players who have left.
	local known = {}

	local function remember_name(name)
		known[#name < SHORT_NAME and name or name:lower()] = true
	end

	local function without_names(message)
		return (message:gsub("[%w_%-]+", function(word)
			if known[#word < SHORT_NAME and word or word:lower()] then
				return "a player"
			end
		end))
	end

	local function record(kind, player, data)
		local name = recorder:player_name(player)
		if name then
			recorder.folds:close_agent("player:" .. name)
			recorder:write(recorder:deed(kind, name, player:get_pos(), data))
		end
	end

	core.register_on_joinplayer(recorder:wrap("join", function(player, last_login)
		remember_name(player:get_player_name())
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

	if enabled.chat then
		core.register_on_chat_message(recorder:wrap("chat", function(name, message)
			if message:sub(1, 1) == "/" or not recorder.is_captured(name) then
				return
			end
			local player = core.get_player_by_name(name)
			message = without_names(recorder.encode.clean(core, message))
			if message ~= "" then
				recorder:write(recorder:deed("chat", name, player and player:get_pos(), {message = message}))
			end
		end))
	end

	if enabled.craft then
		core.register_on_craft(recorder:wrap("craft", function(itemstack, player)
			local name = recorder:player_name(player)
			if not name or itemstack:is_empty() then
				return
			end
			local item = itemstack:get_name()
			local event = recorder:deed("craft", name, player:get_pos(), {item = item})
			recorder:fold_deed(event, item, "count", itemstack:get_count())
		end))
	end

	if enabled.punch then
		core.register_on_punchplayer(recorder:wrap("punch", function(_, hitter)
			local name = recorder:player_name(hitter)
			if name then
				local event = recorder:deed("punch", name, hitter:get_pos(), {target = "player"})
				recorder:fold_deed(event, "player", "count", 1)
			end
		end))
	end

	if enabled.damage then
		core.register_on_player_hpchange(recorder:wrap("damage", function(player, hp_change, reason)
			local name = hp_change < 0 and recorder:player_name(player)
			if not name then
				return
			end
			reason = reason or {}
			local source = recorder.subject(reason.object) or reason.node
			local event = recorder:deed("damage", name, player:get_pos(), {reason = reason.type, source = source})
			local subject = (reason.type or "") .. "|" .. (source or "")
			recorder:fold_deed(event, subject, "amount", -hp_change)
		end), false)
	end

	if enabled.death then
		core.register_on_dieplayer(recorder:wrap("death", function(player, reason)
			reason = reason or {}
			local source = recorder.subject(reason.object) or reason.node
			record("death", player, {reason = reason.type, source = source})
		end))
	end

	-- At shutdown, the engine calls no leave handlers for players who are online.
	return {leave_all = function()
		for _, player in ipairs(core.get_connected_players()) do
			leave(player)
		end
	end}
end
