-- Composes what asks the query service and writes documents.

-- part(name): loads a file of the mod. options: http or nil, core, settings (settings.lua), url, query_url, api_key,
-- boot, callbacks, log, Answer. Returns {requests, questions, documents, on_write(agent_id)}.
return function(part, options)
	local number, micros = options.settings.number, options.core.get_us_time
	local timeout = number("timeout", 2, 0.2, 60)

	local requests = part("requests").new({
		http = options.http,
		api_key = options.api_key,
		micros = micros,
		parse = options.core.parse_json,
		Answer = options.Answer,
	})
	local questions = part("questions").new({
		requests = requests,
		url = options.query_url,
		timeout = timeout,
		cache_ttl = number("cache_ttl", 2, 0, 3600),
		rate = part("rate").new(number("recall_rate", 5, 0.01, 10000), number("recall_burst", 10, 1, 10000)),
		micros = micros,
		callbacks = options.callbacks,
		log = options.log,
		Known = part("known"),
		Answer = options.Answer,
	})
	local function on_write(agent_id)
		questions:forget(agent_id)
	end
	local documents = part("documents").new({
		requests = requests,
		url = options.url,
		timeout = timeout,
		boot = options.boot,
		micros = micros,
		callbacks = options.callbacks,
		Answer = options.Answer,
		on_write = on_write,
	})
	return {requests = requests, questions = questions, documents = documents, on_write = on_write}
end
