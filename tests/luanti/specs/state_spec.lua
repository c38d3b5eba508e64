local fake = dofile("tests/luanti/specs/fake_core.lua")

describe("the state of an agent", function()
	local core, http, now, mod, heard, shut_down

	before_each(function()
		core, http, now, heard = fake.engine(), fake.http(), 1e6, {}
		local passes_us = 0
		core.get_us_time = function()
			now = now + passes_us
			return now
		end
		core.request_http_api = function()
			return http
		end
		core.get_mod_storage = function()
			return {get_string = function(_, name)
				return name == "optout:Ann" and "1" or ""
			end, get_int = function() return 0 end, set_string = function() end}
		end
		_G.memory = nil
		mod = fake.mod(core)
		http.requests, http.next_open = {}, 1 -- without the greeting
		shut_down = function()
			passes_us = 1000
			for _, entry in ipairs(core.entries.shutdown) do
				entry()
			end
		end
	end)

	local function step(seconds)
		now = now + (seconds or 0.1) * 1e6
		for _, entry in ipairs(core.entries.globalstep) do
			entry(0.1)
		end
	end

	local function hear(result, reason)
		heard[#heard + 1] = reason or result.version or result.applied
		heard.result = result
	end

	local function body(n)
		return fake.parse_json(http.requests[n].data)
	end

	it("is put, patched and deleted by POST, one after the other", function()
		local mood = mod.state("npc:a/1", "mood")
		mood:put({calm = true, fears = {}, name = "A"}, {if_version = 0, tick = 5}, hear)
		mood:patch({name = mod.null, seen = {wolves = {}}}, hear)
		mood:delete()
		step()
		assert.are.equal(1, #http.requests)
		local path = "http://127.0.0.1:8080/v1/entities/mood/npc%3Aa%2F1"
		assert.are.equal(path .. "?wait=applied&timeout_ms=1200", http.requests[1].url)
		assert.are.equal("POST", http.requests[1].method)
		assert.is_truthy(http.requests[1].data:find('"fears":{}', 1, true))
		local sent = body(1)
		assert.are.same({{calm = true, fears = {}, name = "A"}, 0, 5}, {sent.data, sent.if_version, sent.tick})
		http.answer(200, '{"event_id":"e","token":"t","applied":true,"version":1}')
		step()
		step()
		step()
		assert.are.same({1}, {heard[1]})
		assert.are.equal("t", heard.result.token)
		assert.are.equal(path .. "/patch?wait=applied&timeout_ms=1200", http.requests[2].url)
		assert.is_truthy(http.requests[2].data:find('"name":null', 1, true))
		assert.is_truthy(http.requests[2].data:find('{"wolves":{}}', 1, true))
		http.answer(200, '{"event_id":"e","token":"t","applied":true,"version":2}')
		step()
		step()
		step()
		assert.are.equal(path .. "/delete?wait=applied&timeout_ms=1200", http.requests[3].url)
		assert.is_nil(body(3).data)
		assert.are_not.equal(body(2).event_id, body(3).event_id)
	end)

	it("is written again with the same event_id until there is an answer", function()
		local id = mod.state("npc:a", "mood"):put({n = 1}, hear)
		step()
		http.answer(0)
		step()
		step()
		assert.are.equal(1, #http.requests)
		step(0.5)
		http.answer(503, '{"error":{"code":"unavailable"},"retry_after_ms":2000}')
		step()
		step(1.5)
		assert.are.equal(2, #http.requests)
		step(0.5)
		-- It is durable, and not applied yet.
		http.answer(202, '{"event_id":"e","token":"t","applied":false}')
		step()
		step(3)
		assert.are.equal(4, #http.requests)
		for n = 1, 4 do
			assert.are.equal(id, body(n).event_id)
		end
		http.answer(200, '{"event_id":"e","token":"t","applied":true,"version":7}')
		step()
		step()
		assert.are.same({7, id}, {heard[1], heard.result.event_id})
	end)

	it("leaves a request to searches while many are written", function()
		for n = 1, 20 do
			mod.state("npc:" .. n, "mood"):put({n = 1})
		end
		step()
		assert.are.equal(3, #http.requests)
		mod.get("npc:a", "wolves", 5, nil, function() end)
		step()
		assert.are.same({4, "wolves"}, {#http.requests, body(4).searches[1].query})
	end)

	it("is not written for half a second after nothing has answered", function()
		for n = 1, 3 do
			mod.state("npc:" .. n, "mood"):put({n = 1})
		end
		step()
		http.answer(0)
		step()
		mod.state("npc:4", "mood"):put({n = 1})
		step()
		assert.are.equal(3, #http.requests)
		step(0.5)
		assert.are.equal(4, #http.requests)
	end)

	it("says why a write failed, and what the present version is", function()
		local mood = mod.state("npc:a", "mood")
		mood:put({n = 1}, {if_version = 3}, hear)
		step()
		http.answer(409, '{"error":{"code":"version_conflict","message":"m","details":{"current":7}}}')
		step()
		step()
		assert.are.same({"version_conflict", 7}, {heard[1], heard.result.current})
		mood:put({n = 1}, hear)
		step()
		for _ = 1, 11 do
			step(1)
		end
		assert.are.equal("timeout", heard[2])
		mood:put("text", hear)
		mood:put({1, 2}, hear)
		mood:put({n = ("x"):rep(256 * 1024)}, hear)
		mod.state("npc:a", "Not a type"):patch({}, hear)
		mod.state(nil, "mood"):get(hear)
		mod.state("npc:\27(T@castle)Guard\27E", "mood"):get(hear)
		mod.state("npc:\27(T@castle)Guard\27E", "mood"):put({n = 1}, hear)
		mod.get("npc:\27(T@castle)Guard\27E", "wolves", 1, nil, hear)
		mod.recall("", {agent_ids = {"npc:a", "npc:\27(T@castle)Guard\27E"}}, hear)
		mod.state("player:Ann", "mood"):put({n = 1}, hear)
		for _ = 1, 5 do
			step()
		end
		assert.are.equal(12, #heard)
		local kinds = {}
		for n = 3, 12 do
			local kind = heard[n]:match("^[^:]+")
			kinds[kind] = (kinds[kind] or 0) + 1
		end
		assert.are.same({invalid = 9, opted_out = 1}, kinds)
	end)

	it("is read with all else that is asked in the step, and anew after a write", function()
		local mood = mod.state("npc:a", "mood")
		mood:get(hear)
		mod.get("npc:a", "wolves", 5, nil, function() end)
		step()
		assert.are.equal(1, #http.requests)
		assert.are.same({{type = "mood", id = "npc:a"}}, body(1).entities)
		http.answer(200, '{"results":[{"memories":[]}],"entities":[{"version":4,"data":{"n":1},"fresh":true}]}')
		step()
		mood:get(hear)
		step()
		assert.are.same({4, 4}, {heard[1], heard[2]})
		assert.are.equal(1, #http.requests)
		mood:patch({n = 2})
		step()
		http.answer(200, '{"applied":true,"version":5}')
		step()
		step()
		mood:get({version = 4}, hear)
		mood:get(hear)
		step()
		assert.are.equal(3, #http.requests)
		assert.are.equal(4, body(3).entities[1].version)
		http.answer(200, '{"results":[],"entities":[{"error":{"code":"version_gone"}},{"version":5,"data":{}}]}')
		step()
		assert.are.same({"version_gone", 5}, {heard[3], heard[4]})
	end)

	it("is read up to the length that can be written, alone where another is asked for too", function()
		local data = '{"version":1,"data":{"text":"' .. ("x"):rep(256 * 1024 - 11) .. '"}}'
		mod.state("npc:a", "notes"):put({text = ("x"):rep(256 * 1024 - 11)})
		mod.state("npc:a", "notes"):get(hear)
		mod.state("npc:b", "notes"):get(hear)
		step()
		step()
		http.answer(200, '{"applied":true,"version":1}')
		http.answer(200, '{"entities":[' .. data .. "," .. data .. "]}")
		step()
		assert.are.same({4, 1}, {#http.requests, #body(3).entities})
		http.answer(200, '{"entities":[' .. data .. "]}")
		http.answer(200, '{"entities":[{"version":2,"data":{"text":"' .. ("x"):rep(300 * 1024) .. '"}}]}')
		step()
		assert.are.same({1, "answer_too_large"}, {heard[1], heard[2]})
	end)

	it("ends at shutdown, also what is asked later", function()
		local mood = mod.state("npc:a", "mood")
		mood:put({n = 1}, hear)
		step()
		mood:put({n = 2}, function() mood:put({n = 3}, hear) end)
		shut_down()
		mood:get(hear)
		mood:put({n = 4}, hear)
		assert.are.same({"shutdown", "shutdown", "shutdown", "shutdown"}, {heard[1], heard[2], heard[3], heard[4]})
		assert.are.equal(0, mod.status().errors, mod.status().error)
	end)

	it("has a receipt for each memory: the token of its write, or why there is none", function()
		local function note(receipt, reason)
			heard[#heard + 1] = receipt or reason
		end
		mod.put("npc:a", "it rains", nil, nil, note)
		mod.emit("rest", "npc:a", nil, note)
		mod.put("npc:a", "", nil, nil, note)
		step(1)
		step(1)
		assert.are.equal("refused: ", heard[1]:match("^refused: "))
		assert.are.equal(2, #body(1).events)
		http.answer(202, '{"accepted":1,"rejected":[{"index":1,"code":"bad","message":"m"}],"token":"the token"}')
		step()
		step()
		assert.are.same({"rejected by the gateway (bad: m)", "the token"}, {heard[2], heard[3]})
		mod.put("npc:a", "it rains", nil, nil, note)
		for _ = 1, 16 do
			step(2)
		end
		assert.are.equal("timeout", heard[4])
		mod.put("npc:a", "it rains", nil, nil, note)
		shut_down()
		mod.put("npc:a", "it rains", nil, nil, note)
		assert.are.same({"shutdown", "shutdown"}, {heard[5], heard[6]})
	end)

	it("has no effect on a global table memory of another mod", function()
		assert.are.equal(mod.get, _G.memory.get)
		assert.are.equal(mod.put, _G.memory.put)
		local other = {}
		_G.memory = other
		fake.mod(core)
		assert.are.equal(other, _G.memory)
		_G.memory = nil
		core.settings.get_bool = function(_, name, default)
			return name ~= "lorestream.memory_alias" and default
		end
		fake.mod(core)
		assert.is_nil(_G.memory)
	end)
end)
