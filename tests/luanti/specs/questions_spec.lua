local fake = dofile("tests/luanti/specs/fake_core.lua")
local Questions = fake.load("questions")

describe("questions", function()
	local http, now, questions, heard

	before_each(function()
		http, now, heard = fake.http(), 1e6, {}
		questions = Questions.new({
			http = http, url = "http://x", api_key = "", timeout = 2, rate = 1, burst = 5,
			micros = function() return now end,
			parse = fake.parse_json,
			log = function() end,
			Answer = fake.load("answer"),
		})
		questions:step(now)
	end)

	local function ask(agent_id, callback)
		questions:ask(agent_id or "a", "/p", "{}", nil, function(answer) return answer.memories end,
			callback or function(memories, err)
				heard[#heard + 1] = err or #memories
			end)
	end

	local function step(seconds)
		now = now + seconds * 1e6
		questions:step(now)
	end

	it("calls back once, in a later step", function()
		ask()
		http.answer(200, '{"memories":[]}')
		assert.are.equal(0, #heard)
		step(0.1)
		step(0.1)
		assert.are.same({0}, heard)
	end)

	it("times out once, and ignores a later answer", function()
		ask()
		for _ = 1, 19 do
			step(0.1)
		end
		assert.are.same({"timeout"}, heard)
		http.answer(200, '{"memories":[]}')
		step(0.1)
		assert.are.same({"timeout"}, heard)
	end)

	it("passes the reason of a failure", function()
		for _, answer in ipairs({{0}, {500, "oops"}, {200, "{}"}, {200}}) do
			questions.buckets = {}
			ask()
			http.answer(answer[1], answer[2])
			step(0.1)
		end
		assert.are.same({"unreachable", "HTTP 500", "unexpected answer", "HTTP 200"}, heard)
	end)

	it("limits the rate of each agent separately", function()
		questions.http = {fetch_async = http.fetch_async, fetch_async_get = function()
			return {completed = true, code = 200, data = '{"memories":[]}'}
		end}
		for _ = 1, 7 do
			ask("a")
			step(0)
		end
		ask("b")
		step(0)
		assert.are.same({0, 0, 0, 0, 0, "rate_limited", "rate_limited", 0}, heard)
		step(1)
		ask("a")
		step(0)
		assert.are.equal(0, heard[9])
	end)

	it("has at most four requests in flight; waiting ones have the same timeout", function()
		for n = 1, 6 do
			ask("a" .. n)
		end
		assert.are.equal(4, #http.requests)
		http.answer(200, '{"memories":[]}')
		step(0.1)
		assert.are.equal(5, #http.requests)
		step(2)
		assert.are.equal(6, #heard)
		assert.are.equal(5, #http.requests)
	end)

	it("continues after a callback that fails or starts another search", function()
		ask("a", function() error("mine") end)
		ask("b", function() ask("b") end)
		http.answer(200, '{"memories":[]}')
		http.answer(200, '{"memories":[]}')
		http.answer(200, '{"memories":[]}')
		step(0.1)
		step(0.1)
		assert.are.same({0}, heard)
	end)

	it("calls all callbacks at shutdown", function()
		for n = 1, 6 do
			ask("a" .. n)
		end
		questions:close()
		step(1)
		assert.are.equal(6, #heard)
	end)

	it("removes full buckets", function()
		for n = 1, 2000 do
			questions:allow("agent" .. n, now)
		end
		questions:allow("one more", now + 10e6)
		assert.are.equal(1, questions.bucket_count)
	end)
end)
