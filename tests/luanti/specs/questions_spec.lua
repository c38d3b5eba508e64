local fake = dofile("tests/luanti/specs/fake_core.lua")
local Questions, Requests = fake.load("questions"), fake.load("requests")
local Answer = fake.load("answer")

describe("questions", function()
	local http, now, questions, heard, last, logged, callbacks
	local none = '{"memories":[]}'

	local function micros()
		return now
	end

	before_each(function()
		http, now, heard, last, logged = fake.http(), 1e6, {}, {}, {}
		local function log(_, text)
			logged[#logged + 1] = text
		end
		callbacks = fake.load("callbacks")(fake.load("guard")(log), micros)
		questions = Questions.new({
			requests = Requests.new({http = http, api_key = "", micros = micros, parse = fake.parse_json, Answer = Answer}),
			url = "http://x", timeout = 2, cache_ttl = 2, rate = fake.load("rate").new(1, 5), micros = micros,
			Known = fake.load("known"), Answer = Answer, callbacks = callbacks, log = log,
		})
		questions:step(now)
	end)

	local function hear(found, reason, fresh)
		heard[#heard + 1] = reason or #found
		last.found, last.fresh = found, fresh
	end

	local function ask(agent_id, body, callback, more)
		local read = {kind = "search", agents = {agent_id or "a"}, body = body or '{"n":0}', size = 5, slow = false}
		for name, value in pairs(more or {}) do
			read[name] = value
		end
		questions:ask(read, callback or hear)
	end

	local function step(seconds)
		now = now + (seconds or 0.1) * 1e6
		questions.requests:step()
		questions:step(now)
		questions:flush()
	end

	-- Answers the oldest open request with these results.
	local function answer(...)
		http.answer(200, '{"results":[' .. table.concat({...}, ",") .. "]}")
	end

	local function sent(n)
		return fake.parse_json(http.requests[n].data).searches
	end

	it("send what is asked in one step in one request, and call back once, in a later step", function()
		for n = 1, 50 do
			ask("a" .. n, ('{"n":%d}'):format(n))
		end
		assert.are.equal(0, #http.requests)
		questions:flush()
		assert.are.equal(1, #http.requests)
		assert.are.equal("http://x/v1/memories/search/batch", http.requests[1].url)
		assert.are.equal(50, #sent(1))
		assert.are.equal(50, sent(1)[50].n)
		local results = {}
		for n = 1, 50 do
			results[n] = n % 2 == 0 and none or '{"error":{"code":"no' .. n .. '"}}'
		end
		answer((table.concat(results, ",")))
		assert.are.equal(0, #heard)
		step()
		assert.are.equal(50, #heard)
		assert.are.same({"no1", 0, "no3"}, {heard[1], heard[2], heard[3]})
		step()
		assert.are.equal(50, #heard)
		assert.are.equal(1, #http.requests)
	end)

	it("send at most 64 reads in a request, at most four requests at once, and ask nothing when idle", function()
		for n = 1, 300 do
			ask("a" .. n, ('{"n":%d}'):format(n))
		end
		questions:flush()
		assert.are.same({4, 64, 64, 64, 64}, {#http.requests, #sent(1), #sent(2), #sent(3), #sent(4)})
		for _ = 1, 4 do
			answer((none .. ","):rep(63) .. none)
		end
		step()
		assert.are.same({5, 44, 256}, {#http.requests, #sent(5), #heard})
		answer((none .. ","):rep(43) .. none)
		step()
		assert.are.equal(300, #heard)
		local polls = 0
		http.fetch_async_get = function()
			polls = polls + 1
			return {completed = false}
		end
		step()
		assert.are.same({0, 5}, {polls, #http.requests})
	end)

	it("keep requests and answers small enough, and slow reads apart", function()
		ask("a", '{"n":1}', nil, {slow = true})
		ask("b", '{"n":2}')
		ask("c", '{"n":3}', nil, {size = 319})
		ask("d", '{"n":4,"query":"' .. ("x"):rep(200 * 1024) .. '"}', nil, {size = 1})
		ask("e", '{"n":5,"query":"' .. ("x"):rep(100 * 1024) .. '"}', nil, {size = 1})
		questions:flush()
		local places = {}
		for n = 1, #http.requests do
			places[n] = {}
			for i, search in ipairs(sent(n)) do
				places[n][i] = search.n
			end
		end
		assert.are.same({{1}, {2, 4}, {3, 5}}, places)
	end)

	it("time out once, end the request, and ignore a later answer", function()
		ask()
		for _ = 1, 19 do
			step()
		end
		assert.are.same({"timeout"}, heard)
		answer(none)
		step()
		assert.are.same({"timeout"}, heard)
		assert.are.equal(4, questions.requests:free())
		step()
		assert.are.equal(1, http.fetched, "the engine keeps an answer until it is fetched")
	end)

	it("time out before the timeout is over, also after a longer step", function()
		for _, lengths in ipairs({{0.09}, {0.3, 0.09, 0.09, 0.25, 0.09, 0.24}, {0.4}}) do
			local asked, took = now, nil
			ask("a", nil, function(_, reason)
				took = reason == "timeout" and (now - asked) / 1e6
			end)
			local n = 0
			while not took do
				n = n % #lengths + 1
				step(lengths[n])
			end
			step(5)
			assert.is_true(took > 1.4 and took <= 2, took)
		end
	end)

	it("pass the reason of a failure", function()
		local answers = {{0}, {500, "oops"}, {200, "{}"}, {200}, {200, '{"results":[3]}'}, {200, '{"results":[{}]}'},
			{429, '{"error":{"code":"overloaded"}}'}, {200, '{"results":[{"error":{"code":7}}]}'}, {200, ("["):rep(5000)},
			{200, '{"results":' .. ("["):rep(5000)}, {200, '{"x":"' .. ("x"):rep(256 * 1024) .. '"}'}}
		for n, result in ipairs(answers) do
			questions.rate.buckets, questions.paused_until_us = {}, 0
			ask("a", ('{"n":%d}'):format(n))
			questions:flush()
			http.answer(result[1], result[2])
			step()
		end
		assert.are.same({"unreachable", "HTTP 500", "unexpected answer", "HTTP 200", "unexpected answer",
			"unexpected answer", "overloaded", "unexpected answer", "HTTP 200", "HTTP 200", "answer_too_large"}, heard)
	end)

	it("send nothing for a second after nothing has answered, and let the engine log nothing", function()
		ask("known", '{"n":1}')
		step()
		answer(none)
		step()
		ask("a")
		step()
		http.answer(0)
		step()
		ask("b")
		ask("known", '{"n":1}')
		step()
		assert.are.same({0, "unreachable", "unreachable", 0}, heard)
		assert.are.same({2, true}, {#http.requests, http.requests[2].quiet})
		step(0.9)
		ask("b")
		step()
		assert.are.equal(3, #http.requests)
	end)

	it("ask again in smaller requests if an answer is too large, or a request is refused as a whole", function()
		for n = 1, 4 do
			ask("a" .. n, ('{"n":%d}'):format(n))
		end
		questions:flush()
		http.answer(200, '{"x":"' .. ("x"):rep(256 * 1024) .. '"}')
		step()
		assert.are.same({3, 2, 2}, {#http.requests, #sent(2), #sent(3)})
		answer(none, none)
		http.answer(413, '{"error":{"code":"body_too_large"}}')
		step()
		assert.are.same({0, 0}, heard)
		assert.are.same({5, 1, 1}, {#http.requests, #sent(4), #sent(5)})
		answer(none)
		http.answer(413, '{"error":{"code":"body_too_large"}}')
		step()
		assert.are.same({0, 0, 0, "body_too_large"}, heard)
	end)

	it("ask alone what had too little left of the budget of its request", function()
		ask("a", '{"n":1}')
		ask("b", '{"n":2}')
		questions:flush()
		answer('{"error":{"code":"over_budget"}}', '{"error":{"code":"over_budget"}}')
		step()
		assert.are.same({3, 1, 1}, {#http.requests, #sent(2), #sent(3)})
		answer('{"error":{"code":"over_budget"}}')
		answer(none)
		step()
		assert.are.same({"over_budget", 0}, heard)
		assert.are.equal(3, #http.requests)
	end)

	it("share one read among equal questions, and keep its answer until it is too old", function()
		local one = '{"memories":[{"text":"x"}]}'
		ask()
		ask()
		questions:flush()
		ask()
		assert.are.same({1, 1}, {#http.requests, #sent(1)})
		answer(one)
		step()
		assert.are.same({1, 1, 1}, heard)
		last.found[1].text = "changed by the callback"
		ask()
		assert.are.equal(3, #heard)
		step()
		assert.are.same({1, 1, 1, 1}, heard)
		assert.are.equal("x", last.found[1].text)
		step(1.9)
		ask()
		step()
		assert.are.equal(2, #http.requests)
		assert.are.same({2, 1}, {questions.shared, questions.cached})
	end)

	it("ask anew after a write of the agent, also if the answer was on its way", function()
		ask("a")
		ask("b", '{"n":1}')
		questions:flush()
		questions:forget("a")
		ask("a")
		questions:flush()
		assert.are.same({2, 1}, {#http.requests, #sent(2)})
		answer(none, none)
		step()
		questions:forget("a")
		ask("a")
		ask("b", '{"n":1}')
		step()
		assert.are.same({0, 0, 0}, heard)
		assert.are.equal(3, #http.requests)
		assert.are.equal(1, #sent(3))
	end)

	it("forget answers of several agents with each of them, and neither keep nor share private ones", function()
		ask("a", '{"n":1}', nil, {agents = {"a", "b"}})
		ask("t", '{"n":2}', nil, {private = true})
		ask("t", '{"n":2}', nil, {private = true})
		questions:flush()
		assert.are.equal(3, #sent(1))
		answer(none, none, none)
		step()
		questions:forget("b")
		ask("a", '{"n":1}', nil, {agents = {"a", "b"}})
		ask("t", '{"n":2}', nil, {private = true})
		questions:flush()
		assert.are.equal(2, #sent(2))
	end)

	it("keep no answer that lacks the write that it had to contain", function()
		ask()
		questions:flush()
		answer('{"memories":[],"fresh":false}')
		step()
		assert.is_false(last.fresh)
		ask()
		questions:flush()
		answer('{"memories":[],"fresh":true}')
		step()
		assert.is_true(last.fresh)
		assert.are.equal(2, #http.requests)
	end)

	it("leave nothing behind", function()
		for n = 1, 5 do
			ask("a" .. n)
		end
		questions:flush()
		answer(none, none, none, "{}", '{"error":{"code":"x"}}')
		step()
		ask("b")
		step(2)
		step(2.1)
		local known = questions.known
		assert.are.same({{}, {}, {}}, {known.entries, known.of_agent, known.kept})
		assert.are.same({{}, {}}, {questions.pending, questions.waiting})
	end)

	it("limit the rate of each agent separately", function()
		for n = 1, 7 do
			ask("a", ('{"n":%d}'):format(n))
		end
		ask("b")
		questions:flush()
		answer(none, none, none, none, none, none)
		step()
		assert.are.same({0, 0, 0, 0, 0, "rate_limited", "rate_limited", 0}, heard)
		step(1)
		ask("a", '{"n":8}')
		step()
		answer(none)
		step()
		assert.are.equal(0, heard[9])
	end)

	it("read the answers of one step in several steps, if they take long", function()
		for n = 1, 2 do
			ask("a" .. n, ('{"n":%d}'):format(n), nil, {size = 320})
		end
		questions:flush()
		answer(none)
		answer(none)
		questions.requests.parse = function(text)
			now = now + 4000
			return fake.parse_json(text)
		end
		step()
		assert.are.equal(1, #heard)
		step()
		assert.are.equal(2, #heard)
	end)

	it("go on after a callback that fails or starts another search, and leave its time out", function()
		ask("a", nil, function()
			now = now + 5000
			error("mine")
		end)
		ask("b", nil, function() ask("b", '{"n":1}') end)
		questions:flush()
		answer(none, none)
		step()
		answer(none)
		step()
		assert.are.same({0}, heard)
		assert.are.equal(5000, callbacks.us)
		assert.are.equal(1, #logged)
	end)

	it("call all callbacks at shutdown, also those of later questions", function()
		for n = 1, 6 do
			ask("a" .. n)
		end
		questions:flush()
		ask("late", nil, function() ask("from a callback") end)
		questions:close()
		assert.are.equal(7, #heard)
		ask()
		assert.are.equal("shutdown", heard[8])
		step()
		assert.are.equal(8, #heard)
	end)

	it("end at shutdown even if each callback asks again", function()
		local function again()
			ask("a", nil, again)
		end
		again()
		questions:close()
		assert.are.equal(1, #logged)
	end)

	it("remove full buckets", function()
		for n = 1, 2000 do
			questions.rate:allow("agent" .. n, now)
		end
		questions.rate:allow("one more", now + 10e6)
		assert.are.equal(1, questions.rate.count)
	end)
end)
