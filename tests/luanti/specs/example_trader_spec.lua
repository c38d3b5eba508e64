local MOD = "producers/luanti/examples/lorestream_trader/"
local weight = dofile("producers/luanti/examples/lorestream_agents/weight.lua")
local mind = assert(loadfile(MOD .. "mind.lua"))(weight)
local Stall = dofile(MOD .. "stall.lua")

local function deal(outcome, price, age_s, first)
	return {timestamp = 1000 - age_s, metadata = {outcome = outcome, price = price, first = first == true}}
end

describe("the trader's mind", function()
	it("goes by the list price as long as he knows nothing", function()
		assert.are.equal(20, (mind.worth({}, 1000, 20)))
		assert.are.same({26, 20, 14}, mind.asks(20, 0, 8))
	end)

	it("follows what was paid, and newer deals more than older ones", function()
		local worth = mind.worth({deal("paid", 40, 0), deal("paid", 10, 6000)}, 1000, 20)
		assert.is_true(worth > 30)
		local old = mind.worth({deal("paid", 10, 0), deal("paid", 40, 6000)}, 1000, 20)
		assert.is_true(old < 20)
	end)

	it("asks less after a deal that failed, and more after a first price that was accepted", function()
		local failed = mind.worth({deal("no_deal", 20, 0)}, 1000, 20)
		local haggled = mind.worth({deal("paid", 20, 0)}, 1000, 20)
		local at_once = mind.worth({deal("paid", 20, 0, true)}, 1000, 20)
		assert.is_true(failed < haggled and haggled < at_once)
	end)

	it("names prices that are closer together the more he knows, and none below the cost", function()
		assert.are.same({22, 20, 18}, mind.asks(20, 100, 8))
		assert.are.same({9}, mind.asks(6, 100, 8))
	end)

	it("deals with strangers and with those who pay, not with those who cheated", function()
		local cheat, payer = {deal("cheated", 20, 0)}, {deal("paid", 20, 0), deal("paid", 20, 60)}
		assert.is_true(mind.deals(mind.trust({}, 1000), 20, 8))
		assert.is_true(mind.trust(payer, 1000) > mind.trust({}, 1000))
		assert.is_false(mind.deals(mind.trust(cheat, 1000), 20, 8))
	end)

	it("weighs a cheat with the deals that were paid, and with his age", function()
		local mixed = {deal("cheated", 20, 0), deal("paid", 20, 60), deal("paid", 20, 90), deal("paid", 20, 120)}
		assert.is_true(mind.deals(mind.trust(mixed, 1000), 20, 8))
		local long_ago = {deal("cheated", 20, 40 * 86400)}
		assert.is_true(mind.deals(mind.trust(long_ago, 1000), 20, 8))
	end)

	it("makes nothing of memories of another kind", function()
		local other = {{timestamp = 1000, metadata = {outcome = "found"}}}
		assert.are.equal(mind.trust({}, 1000), mind.trust(other, 1000))
		assert.are.equal(20, (mind.worth(other, 1000, 20)))
	end)

	it("names no customer in a text", function()
		local text, metadata = mind.memory("Ann", "rope", "paid", 7, true)
		assert.are.equal("A customer bought rope and paid 7 coins", text)
		assert.are.same({player = "Ann", good = "rope", outcome = "paid", price = 7, first = true}, metadata)
	end)
end)

describe("the stall", function()
	local now, stall, notes, heard, counted, debts

	local function open()
		stall = Stall.new({
			debts = debts,
			mind = mind,
			goods = {rope = {cost = 8, list = 20}},
			due_s = 60,
			clock = function() return now end,
			remember = function(_, metadata)
				table.insert(notes, metadata)
			end,
			count = function(what, amount)
				counted[what] = counted[what] + amount
			end,
		})
	end

	before_each(function()
		now, notes, heard, counted, debts = 0, {}, {}, {gold = 0, cheated = 0}, {}
		open()
	end)

	-- A customer comes; the trader remembers what the stall has noted of him.
	local function come(name)
		stall:enter(name, "rope", function(price, why)
			table.insert(heard, price or why)
		end)
		stall:serve(function(...)
			local answers = {}
			for i, question in ipairs({...}) do
				local wanted, found = question.filters, {}
				for _, note in ipairs(notes) do
					if (not wanted.player or wanted.player == note.player) and (not wanted.good or wanted.good == note.good) then
						table.insert(found, {timestamp = now, metadata = note})
					end
				end
				answers[i] = found
			end
			return unpack(answers)
		end)
	end

	it("earns what is paid, less the cost", function()
		come("Ann")
		assert.are.equal(20, stall:too_dear("Ann"))
		assert.are.same({"rope", 20}, {stall:take("Ann")})
		assert.are.equal(-8, counted.gold)
		assert.are.equal(20, stall:owed("Ann"))
		assert.are.equal(20, stall:pay("Ann"))
		assert.are.equal(12, counted.gold)
		assert.is_nil(stall:pay("Ann"))
		assert.are.same({{player = "Ann", good = "rope", outcome = "paid", price = 20, first = false}}, notes)
	end)

	it("remembers a deal that failed, with its last price", function()
		come("Ann")
		stall:too_dear("Ann")
		stall:too_dear("Ann")
		assert.is_nil(stall:too_dear("Ann"))
		assert.are.same({"no_deal", 14}, {notes[1].outcome, notes[1].price})
		assert.is_nil(stall:take("Ann"))
	end)

	it("still knows a debt after the trader was not loaded", function()
		come("Ann")
		stall:take("Ann")
		open()
		assert.are.equal(26, stall:owed("Ann"))
		now = 60
		stall:give_up()
		assert.are.equal("cheated", notes[1].outcome)
	end)

	it("gives up a debt when it is overdue, and refuses the customer from then on", function()
		come("Bob")
		stall:take("Bob")
		come("Bob")
		now = 59
		stall:give_up()
		assert.are.equal(0, counted.cheated)
		now = 60
		stall:give_up()
		assert.are.equal(1, counted.cheated)
		come("Bob")
		come("Ann")
		assert.are.same({26, "owes", "distrust"}, {heard[1], heard[2], heard[3]})
		assert.are.equal("number", type(heard[4]))
	end)
end)

describe("the trader", function()
	local def, player, receive, forms, old_core, old_agents

	before_each(function()
		local core = dofile("tests/luanti/specs/fake_core.lua").engine()
		forms, old_core, old_agents = {}, _G.core, _G.lorestream_agents
		core.get_modpath = function() return "producers/luanti/examples/lorestream_trader" end
		core.settings.get = function() return nil end
		core.registered_items = {["farming:bread"] = {}}
		core.formspec_escape = function(text) return text end
		core.show_formspec = function(name) forms[#forms + 1] = name end
		_G.core = core
		_G.lorestream_agents = {weight = weight, active = {}, register = function(made) def = made end}
		dofile(MOD .. "init.lua")
		core.entries.mods_loaded[1]()
		receive = core.entries.player_receive_fields[1]
		player = {get_player_name = function() return "Ann" end}
	end)

	after_each(function()
		_G.core, _G.lorestream_agents = old_core, old_agents
	end)

	-- As after the loading of his place in the world.
	local function load(own)
		local agent = {id = "npc:t", own = own or {}}
		function agent.now() return 0 end
		function agent.pos() return nil end
		function agent.ask() return {}, {} end
		agent.remember, agent.count = function() end, function() end
		_G.lorestream_agents.active["npc:t"] = agent
		return agent
	end

	it("talks again with a player in whose talk he was unloaded", function()
		local first = load()
		def.on_rightclick(first, player)
		def.live(first)
		def.on_rightclick(first, player)
		def.live(first)
		assert.are.equal(1, #forms, "one talk at a time")
		local second = load(first.own)
		receive(player, "lorestream_trader:offer", {take = "I take it"})
		assert.is_nil(second.stall)
		assert.are.same({}, first.own.debts)
		def.on_rightclick(second, player)
		def.live(second)
		assert.are.equal(2, #forms)
	end)
end)
