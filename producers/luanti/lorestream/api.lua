-- The global table `lorestream`, which other mods call. Documented in api.md.

-- The most entries of these lists that the service takes.
local MAX_ABOUT, MAX_SOURCES = 64, 256

return function(parts)
	local core, encode, recorder = parts.core, parts.encode, parts.recorder
	local spool, questions, sender = parts.spool, parts.questions, parts.sender

	local lorestream = {timeout = questions.timeout, importance = recorder.importance}

	-- The id of an agent of this world: "SERVER/name". The same name in another world is another agent.
	function lorestream.agent_id(name)
		return parts.agent_prefix .. "/" .. tostring(name)
	end

	-- Gives a Lua entity (or its object) an agent id that is kept with it: it then remembers who hit it. Without an id,
	-- one is made. Returns the id, or nil and the reason.
	function lorestream.bind(entity, agent_id)
		return recorder.bindings:bind(entity, agent_id or lorestream.agent_id("npc:" .. parts.random()))
	end

	-- The agent id of a Lua entity or its object, or nil.
	function lorestream.agent_of(entity)
		return recorder.bindings:agent_of(entity)
	end

	-- Whether the player must not be recorded.
	function lorestream.opted_out(name)
		return parts.privacy:opted_out(name)
	end

	-- Moves pos, player, importance, about, sources and supersedes from the data to the event itself: only there can the
	-- position be searched, and only there is a player's name replaced by a pseudonym. Returns an error, or nil and the
	-- remaining data.
	local function lift(event, data)
		if data == nil then
			return nil
		elseif type(data) ~= "table" then
			return "must be a table"
		end
		local copy, why = encode.data(core, data)
		if not copy then
			return why
		end
		local pos = encode.position(data.pos)
		if pos then
			event.pos, copy.pos = pos, nil
		end
		if type(data.player) == "string" and data.player ~= "" then
			event.player, copy.player = data.player, nil
		end
		if recorder.valid_importance(data.importance) then
			event.importance, copy.importance = data.importance, nil
		end
		-- Few events have them, and LuaJIT does not compile a loop over a table's fields.
		if data.about and encode.is_list_of_strings(data.about, MAX_ABOUT) then
			event.about, copy.about = data.about, nil
		end
		if data.sources and encode.is_list_of_strings(data.sources, MAX_SOURCES) then
			event.sources, copy.sources = data.sources, nil
		end
		if type(data.supersedes) == "string" and data.supersedes ~= "" then
			event.supersedes, copy.supersedes = data.supersedes, nil
		end
		return nil, next(copy) ~= nil and copy or nil
	end

	local function refuse(what, why)
		return recorder:refuse("an event of " .. what, why)
	end

	local function measured(fn)
		return function(...)
			local began = core.get_us_time()
			local first, second = fn(...)
			recorder.profile:add(core.get_us_time() - began)
			return first, second
		end
	end

	lorestream.put = measured(function(agent_id, text, metadata, ttl)
		if type(text) ~= "string" or text == "" then
			return refuse("lorestream.put", "text must be a non-empty string")
		end
		if ttl ~= nil and (type(ttl) ~= "number" or not (ttl >= 0 and ttl < math.huge)) then
			return refuse("lorestream.put", "ttl must be a number of seconds, 0 or more")
		end
		local event = {agent_id = agent_id, text = encode.clean(core, text), ttl = ttl and math.ceil(ttl)}
		local why, kept = lift(event, metadata)
		if why then
			return refuse("lorestream.put", "metadata: " .. why)
		end
		event.metadata = kept
		return recorder:write(event)
	end)

	lorestream.emit = measured(function(kind, agent_id, data)
		if type(kind) ~= "string" then
			return refuse("lorestream.emit", "type must be a string")
		end
		local event = {agent_id = agent_id, type = kind}
		local why, kept = lift(event, data)
		if why then
			return refuse("lorestream.emit", "data: " .. why)
		end
		event.data = kept
		return recorder:write(event)
	end)

	-- Adds an erasure to the spool. subject: {agent_id = …} or {player = …}.
	local function erase(subject)
		local line = core.write_json(subject):gsub("\n$", "")
		recorder.folds:close_all()
		spool:put_erasure(line)
		-- The lines that were set aside may be about the subject; nobody can tell.
		os.remove(parts.set_aside)
	end

	function lorestream.forget(agent_id)
		if type(agent_id) ~= "string" or agent_id == "" then
			return refuse("lorestream.forget", "agent_id must be a non-empty string")
		end
		erase({agent_id = agent_id})
		questions:forget(agent_id)
		return true
	end

	function lorestream.status()
		return {
			http = sender ~= nil,
			url = parts.url,
			query_url = questions.url,
			server = parts.server,
			boot = recorder.boot,
			spooled = spool.count,
			on_disk = spool.unsaved == 0,
			folding = recorder.folds.count,
			captured = recorder.captured,
			refused = recorder.refused,
			dropped = parts.losses.full + spool.dropped_left,
			lost = parts.losses.count,
			sent = sender and sender.sent or 0,
			rejected = sender and sender.rejected + sender.refused or 0,
			connected = sender ~= nil and sender.connected == true and sender.failures == 0,
			failures = sender and sender.failures or 0,
			last_error = sender and sender.last_error or nil,
			last_answer_s = sender and sender.answered_us and (core.get_us_time() - sender.answered_us) / 1e6 or nil,
			errors = parts.guard.errors,
			error = parts.guard.last_error,
			asked = questions.asked,
			unanswered = questions.failed,
			cached = questions.cached,
			shared = questions.shared,
			requests = questions.requests.sent,
			capture = recorder.profile:summary(),
			ask = parts.ask_profile:summary(),
			step = parts.step_profile:summary(),
		}
	end

	return lorestream, function(name)
		erase({player = name})
		questions:forget("player:" .. name)
	end
end
