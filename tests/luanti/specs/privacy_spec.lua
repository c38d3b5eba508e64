local fake = dofile("tests/luanti/specs/fake_core.lua")
local Privacy = fake.load("privacy")
local importance = fake.load("importance")

describe("privacy", function()
	local privacy, stored

	before_each(function()
		stored = {}
		privacy = Privacy.new({
			get_string = function(_, key) return stored[key] or "" end,
			set_string = function(_, key, value) stored[key] = value end,
		})
	end)

	it("keeps opt-outs in the storage", function()
		assert.is_false(privacy:opted_out("Ann"))
		privacy:set("Ann", true)
		assert.is_true(privacy:opted_out("Ann"))
		assert.are.same({["optout:Ann"] = "1"}, stored)
		privacy:set("Ann", false)
		assert.is_false(privacy:opted_out("Ann"))
	end)

	it("forbids events of the player and of agents named after the player", function()
		privacy:set("Ann", true)
		for _, event in ipairs({
			{agent_id = "npc:a", player = "Ann"}, {agent_id = "player:Ann"}, {agent_id = "w1/npc:player:Ann"},
			{agent_id = "npc:a", about = {"npc:b", "Ann"}}, {agent_id = "npc:a", about = {"player:Ann"}},
		}) do
			assert.is_true(privacy:forbids(event))
		end
		for _, event in ipairs({
			{agent_id = "npc:Ann"}, {agent_id = "player:Annabella"}, {agent_id = "multiplayer:Ann"},
			{agent_id = "player:"}, {agent_id = 5}, {}, {agent_id = "npc:a", about = {"npc:Ann", "Annabella"}},
		}) do
			assert.is_false(privacy:forbids(event))
		end
	end)
end)

describe("importance", function()
	it("has defaults that a text changes, also for other types", function()
		local by_type, wrong = importance.table_from(" dig = 1,quest=9.5 ,, trade=11, =3, chat, kill=x")
		assert.are.equal(1, by_type.dig)
		assert.are.equal(9.5, by_type.quest)
		assert.are.equal(7, by_type.trade)
		assert.are.same({"trade=11", "=3", "chat", "kill=x"}, wrong)
		assert.are.same({}, select(2, importance.table_from("")))
	end)
end)
