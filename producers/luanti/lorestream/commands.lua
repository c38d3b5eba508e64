-- /lorestream status | recall AGENT QUERY | forget [AGENT] | optout [on|off]

return function(parts)
	local core, lorestream = parts.core, parts.lorestream
	local usage = "status | recall AGENT QUERY | forget [AGENT] | optout [off]"

	local function is_admin(name)
		return core.check_player_privs(name, {server = true})
	end

	local actions = {}

	function actions.status(name)
		if not is_admin(name) then
			return false, "You need the privilege: server"
		end
		local s = lorestream.status()
		local state = s.connected and "connected" or s.last_error or "not connected yet"
		if not s.http then
			state = "the mod may not use HTTP: set secure.http_mods = lorestream"
		end
		return true, table.concat({
			("Lorestream: %s (%s), this server is %s"):format(state, s.url, s.server),
			("events: %d captured, %d sent, %d waiting, %d rejected, %d dropped"):format(
				s.captured, s.sent, s.spooled, s.rejected + s.refused, s.dropped),
			("searches: %d sent, %d failed"):format(s.asked, s.unanswered),
			("time: %.1f us per event (p99 %d us); per server step p50 %d us, p99 %d us, maximum %d us"):format(
				s.capture.mean_us, s.capture.p99_us, s.step.p50_us, s.step.p99_us, s.step.max_us),
		}, "\n")
	end

	function actions.recall(name, rest)
		if not is_admin(name) then
			return false, "You need the privilege: server"
		end
		local agent_id, query = rest:match("^(%S+)%s+(.+)$")
		if not agent_id then
			return false, "Usage: /lorestream recall AGENT QUERY"
		end
		lorestream.get(agent_id, query, 5, nil, function(memories, err)
			if err then
				core.chat_send_player(name, "Lorestream: the search failed (" .. err .. ")")
			elseif #memories == 0 then
				core.chat_send_player(name, "Lorestream: " .. agent_id .. " has no memory of that")
			end
			for _, memory in ipairs(memories) do
				core.chat_send_player(name, ("%.2f  %s"):format(memory.score or 0, memory.text or ""))
			end
		end)
		return true
	end

	function actions.forget(name, rest)
		if rest == "" then
			parts.forget_player(name)
			return true, "All memories about you will be erased."
		elseif not is_admin(name) then
			return false, "To erase the memories of another agent, you need the privilege: server"
		end
		lorestream.forget(rest)
		return true, "All memories of " .. rest .. " will be erased."
	end

	function actions.optout(name, rest)
		if rest ~= "" and rest ~= "on" and rest ~= "off" then
			return false, "Usage: /lorestream optout [off]"
		end
		parts.set_optout(name, rest ~= "off")
		if rest == "off" then
			return true, "Your actions and messages are recorded again."
		end
		return true, "Your actions and messages are no longer recorded. /lorestream forget erases what was recorded before."
	end

	core.register_chatcommand("lorestream", {
		params = usage,
		description = "The memory service: its status, the memories of an agent, and your privacy",
		func = parts.guard.wrap("the command /lorestream", function(name, param)
			local verb, rest = param:match("^%s*(%S*)%s*(.-)%s*$")
			local action = actions[verb]
			if not action then
				return false, "Usage: /lorestream " .. usage
			end
			return action(name, rest)
		end),
	})
end
