-- Adds recall, get and context to the global table `lorestream`. Documented in api.md. What is wrong with a question is
-- the reason that its callback gets, never an error in the caller.

-- Memories that a search and a context return, if the caller does not say.
local K, RECENT, RELEVANT = 5, 10, 5

return function(parts, lorestream)
	local core, encode, questions, callbacks = parts.core, parts.encode, parts.questions, parts.callbacks

	-- A body as JSON, or nil and the reason why it has none.
	local function encoded(body)
		local copy, why = encode.data(core, body)
		if not copy then
			return nil, why
		end
		for name, value in pairs(copy) do
			if type(value) == "table" and next(value) == nil then
				-- write_json writes an empty table as null.
				copy[name] = nil
			end
		end
		local json
		json, why = core.write_json(copy)
		return json and json:gsub("\n$", "") or nil, why
	end

	local function number(value, default)
		return type(value) == "number" and value or default
	end

	-- A copy of the options, to which the agent is added. A text is the query.
	local function options(agent_id, opts)
		if type(opts) == "string" then
			opts = {query = opts}
		elseif opts ~= nil and type(opts) ~= "table" then
			return {}, "the options must be a table or a text"
		end
		local body = {}
		for name, value in pairs(opts or {}) do
			body[name] = value
		end
		body.agent_id = agent_id
		return body, encode.agent_fault(agent_id)
	end

	local told = false

	-- Sends a read. Returns true, or nil and the reason if there is no callback to tell it to.
	local function ask(read, body, why, callback)
		local began_us = core.get_us_time()
		if type(callback) ~= "function" then
			if not told then
				told = true
				parts.log("error", "a search without a function as its callback: it is not sent (logged once)")
			end
			return nil, "the callback must be a function"
		end
		read.slow = body.after ~= nil or body.rerank == true
		if not why then
			read.body, why = encoded(body)
		end
		read.why = why
		local foreign_us = callbacks.us
		questions:ask(read, callback)
		parts.ask_profile:add(core.get_us_time() - began_us - (callbacks.us - foreign_us))
		return true
	end

	local function strings_of(list)
		local strings = {}
		for _, one in ipairs(type(list) == "table" and list or {}) do
			strings[#strings + 1] = type(one) == "string" and one or nil
		end
		return strings
	end

	function lorestream.recall(agent_id, opts, callback)
		local body, why = options(agent_id, opts)
		local read = {kind = "search", agents = {agent_id}, size = number(body.k, K)}
		if body.scope ~= nil then
			body.agent_id, why, read.agents, read.private = nil, nil, {tostring(agent_id)}, true
		elseif body.agent_ids ~= nil then
			read.agents = strings_of(body.agent_ids)
			body.agent_id, why = nil, #read.agents == 0 and "agent_ids must be a list of strings" or nil
			for _, one in ipairs(read.agents) do
				why = why or encode.agent_fault(one)
			end
		end
		return ask(read, body, why, callback)
	end

	function lorestream.get(agent_id, query, k, filters, callback)
		return lorestream.recall(agent_id, {query = query, k = k or K, filters = filters}, callback)
	end

	function lorestream.context(agent_id, opts, callback)
		local body, why = options(agent_id, opts)
		-- Memories beside the relevant ones are added, and the text of all of them, about as long as four.
		local size = number(body.recent, RECENT) + 2 * number(body.relevant, RELEVANT) + 4
		return ask({kind = "context", agents = {agent_id}, size = size}, body, why, callback)
	end

	return ask
end
