-- /lorestream for admins, other players and the server's console, whose name is "".

local fake = dofile("tests/luanti/specs/fake_core.lua")

local function part(name)
	return assert(loadfile("producers/luanti/lorestream/" .. name .. ".lua"))()
end

describe("the command /lorestream", function()
	local command, told, logged, asked, erased, out

	before_each(function()
		told, logged, asked, erased, out = {}, {}, {}, {}, {}
		local function log(_, text)
			logged[#logged + 1] = text
		end
		local cost = {count = 3, mean_us = 7.25, p50_us = 6, p99_us = 40.4, max_us = 90, overruns = 2}
		part("commands")({
			core = {
				check_player_privs = function(name)
					return name == "admin"
				end,
				chat_send_player = function(name, text)
					told[#told + 1] = name .. ": " .. text
				end,
				register_chatcommand = function(_, definition)
					command = definition.func
				end,
			},
			S = fake.translate,
			log = log,
			guard = part("guard")(log),
			forget_player = function(name)
				erased[#erased + 1] = "player " .. name
			end,
			set_optout = function(name, value)
				out[name] = value
			end,
			lorestream = {
				status = function()
					return {http = true, connected = true, url = "http://h:1", server = "s", spooled = 12, folding = 1,
						captured = 50, sent = 30, rejected = 1, refused = 2, dropped = 5, failures = 0, asked = 9, unanswered = 4,
						last_answer_s = 1.26, errors = 0, lost = 8, cached = 3,
						shared = 1, requests = 5, capture = cost, ask = cost, step = cost}
				end,
				get = function(agent_id, query, _, _, callback)
					if query == "break" then
						error("broken")
					end
					asked[#asked + 1] = agent_id .. " " .. query
					callback(query == "fail" and {} or {{score = 0.5, text = "I found iron"}}, query == "fail" and "timeout" or nil)
				end,
				forget = function(agent_id)
					erased[#erased + 1] = agent_id
					return true
				end,
			},
		})
	end)

	it("shows queue, last answer, drops and costs in the status", function()
		local done, text = command("admin", "status")
		assert.is_true(done)
		for _, found in ipairs({"connected (http://h:1)", "last answer: 1.3 s ago", "queue: 12 events wait",
			"3 rejected, 5 dropped by a full queue; lost in all: 8", "9 asked, 4 answered from the cache, 4 without",
			"p99 40 us, maximum 90 us; overruns (more than 10 ms): 2"}) do
			assert.is_truthy(text:find(found, 1, true), found)
		end
		assert.same({}, logged)
	end)

	it("lets the console do what an admin may, and answers in the log", function()
		assert.is_true((command("", "status")))
		assert.is_truthy(logged[1]:find("queue: 12", 1, true))
		assert.is_true((command("", "recall npc:a iron")))
		assert.is_true((command("", "forget npc:a")))
		assert.same({"npc:a iron"}, asked)
		assert.same({"npc:a"}, erased)
		assert.same({}, told)
		assert.equals("0.50  I found iron", logged[2])
	end)

	it("has no memories and no privacy of the console itself", function()
		assert.is_false((command("", "forget")))
		assert.is_false((command("", "optout")))
		assert.same({}, erased)
		assert.same({}, out)
	end)

	it("lets other players only forget and opt out for themselves", function()
		for _, param in ipairs({"status", "recall npc:a iron", "forget npc:a", "dance", ""}) do
			assert.is_false((command("ann", param)), param)
		end
		assert.same({}, erased)
		assert.is_true((command("ann", "forget")))
		assert.is_true((command("ann", "optout")))
		assert.same({"player ann"}, erased)
		assert.same({ann = true}, out)
		command("ann", "optout off")
		assert.same({ann = false}, out)
	end)

	it("says what failed", function()
		command("admin", "recall npc:a fail")
		assert.same({"admin: Lorestream: the search failed (timeout)"}, told)
		local done, text = command("admin", "recall npc:a break")
		assert.is_false(done)
		assert.equals("The command failed: see the server's log.", text)
	end)
end)
