-- /lorestream status | recall AGENT QUERY | forget [AGENT] | optout [off]
-- The server's console has the name "": it may do everything that an admin may, and has no memories of its own.

return function(parts)
	local core, lorestream, S = parts.core, parts.lorestream, parts.S
	local usage = "status | recall AGENT QUERY | forget [AGENT] | optout [off]"
	local CONSOLE = ""

	local function is_admin(name)
		return name == CONSOLE or core.check_player_privs(name, {server = true})
	end

	-- The engine shows nothing that is sent to a console without a name, only the log.
	local function tell(name, text)
		if name == CONSOLE then
			parts.log("action", text)
		else
			core.chat_send_player(name, text)
		end
	end

	local function explain(arguments)
		return S("Usage: @1", "/lorestream " .. arguments)
	end

	local function state_of(s)
		if not s.http then
			return S("the mod may not use HTTP: set @1", "secure.http_mods = lorestream")
		end
		return s.connected and S("connected") or s.last_error or S("not connected yet")
	end

	local function last_answer_of(s)
		return s.last_answer_s and S("@1 s ago", ("%.1f"):format(s.last_answer_s)) or S("none yet")
	end

	local function us(value)
		return ("%.0f"):format(value)
	end

	local actions = {}

	function actions.status(name)
		if not is_admin(name) then
			return false, S("You need the privilege: @1", "server")
		end
		local s = lorestream.status()
		local step = s.step
		return true, table.concat({
			S("Lorestream: @1 (@2), this server is @3", state_of(s), s.url, s.server),
			S("last answer: @1; failures since then: @2", last_answer_of(s), s.failures),
			S("queue: @1 events wait, @2 actions are being folded", s.spooled, s.folding),
			S("events: @1 captured, @2 sent, @3 rejected, @4 dropped by a full queue; lost in all: @5", s.captured, s.sent,
				s.rejected + s.refused, s.dropped, s.lost),
			S("searches: @1 asked, @2 answered from the cache, @3 without an answer, in @4 requests", s.asked,
				s.cached + s.shared, s.unanswered, s.requests),
			S("time per event: @1 us, p99 @2 us; per search: @3 us, p99 @4 us", us(s.capture.mean_us), us(s.capture.p99_us),
				us(s.ask.mean_us), us(s.ask.p99_us)),
			S("time per server step: p50 @1 us, p99 @2 us, maximum @3 us; overruns (more than 10 ms): @4",
				us(step.p50_us), us(step.p99_us), us(step.max_us), step.overruns),
			s.error and S("errors of the mod: @1, the last: @2", s.errors, s.error) or S("errors of the mod: @1", s.errors),
		}, "\n")
	end

	function actions.recall(name, rest)
		if not is_admin(name) then
			return false, S("You need the privilege: @1", "server")
		end
		local agent_id, query = rest:match("^(%S+)%s+(.+)$")
		if not agent_id then
			return false, explain("recall AGENT QUERY")
		end
		lorestream.get(agent_id, query, 5, nil, function(memories, err)
			if err then
				tell(name, S("Lorestream: the search failed (@1)", err))
			elseif #memories == 0 then
				tell(name, S("Lorestream: @1 has no memory of that", agent_id))
			end
			for _, memory in ipairs(memories) do
				tell(name, ("%.2f  %s"):format(memory.score or 0, memory.text or ""))
			end
		end)
		return true
	end

	function actions.forget(name, rest)
		if rest == "" and name == CONSOLE then
			return false, explain("forget AGENT")
		elseif rest == "" then
			parts.forget_player(name)
			return true, S("All memories about you will be erased.")
		elseif not is_admin(name) then
			return false, S("To erase the memories of another agent, you need the privilege: @1", "server")
		end
		local done, why = lorestream.forget(rest)
		return done == true, done and S("All memories of @1 will be erased.", rest) or why
	end

	function actions.optout(name, rest)
		if rest ~= "" and rest ~= "on" and rest ~= "off" then
			return false, explain("optout [off]")
		elseif name == CONSOLE then
			return false, S("Only players are recorded: a player opts out with this command in the game.")
		end
		parts.set_optout(name, rest ~= "off")
		if rest == "off" then
			return true, S("Your actions and messages are recorded again.")
		end
		return true, S("Nothing of you is recorded any more. /lorestream forget erases what was recorded before.")
	end

	local run = parts.guard.wrap("the command /lorestream", function(name, param)
		local verb, rest = param:match("^%s*(%S*)%s*(.-)%s*$")
		local action = actions[verb]
		if not action then
			return false, explain(usage)
		end
		return action(name, rest)
	end)

	core.register_chatcommand("lorestream", {
		params = usage,
		description = S("The memory service: its status, the memories of an agent, and your privacy"),
		func = function(name, param)
			local done, text = run(name, param)
			if done == nil then
				done, text = false, S("The command failed: see the server's log.")
			end
			if name == CONSOLE and text then
				tell(name, text)
			end
			return done, text
		end,
	})
end
