local fake = dofile("tests/luanti/specs/fake_core.lua")
local Names = fake.load("names")

describe("names", function()
	local names

	before_each(function()
		names = Names.new()
		for _, name in ipairs({"Ann", "Annabella", "Ann-Lee", "Bo", "iron", "the", "x_1"}) do
			names:add(name)
		end
		names:add_words("default:iron_lump")
	end)

	local function becomes(expected, text)
		assert.are.equal(expected, names:hide(text))
	end

	it("replaces whole words, the longest name first", function()
		becomes("a player stole my gold", "Annabella stole my gold")
		becomes("a player-look", "Ann-look")
		becomes("_a player_ and a player!", "_Ann_ and ANN-LEE!")
		becomes("a player's horse, a player's cow, a player's pig", "Ann's horse, Anns cow, Annabellas pig")
		becomes("(a player) a player", "(x_1) Ann")
		becomes("", "")
	end)

	it("leaves longer words alone, whatever their letters", function()
		becomes("Annex, Ann2, Hann, nann", "Annex, Ann2, Hann, nann")
		becomes("Änn, Annä, éAnn, Annḁ, Ann\204\136", "Änn, Annä, éAnn, Annḁ, Ann\204\136")
	end)

	it("ends a word at other scripts and at punctuation", function()
		becomes("“a player”…a player—a player", "“Ann”…Ann—Ann")
		becomes("a playerが来た, a player이, ×a player÷", "Annが来た, Ann이, ×Ann÷")
		becomes("a player😀\255a player\195", "Ann😀\255Ann\195")
	end)

	it("replaces short names in their exact case only", function()
		becomes("a player and bo", "Bo and bo")
	end)

	it("replaces names that are words of items or frequent words only as a speaker or the one spoken to", function()
		becomes("I found iron in the cave, Iron!", "I found iron in the cave, Iron!")
		becomes("<a player> look, @a player", "<iron> look, @Iron")
		becomes("a player: come here", "iron: come here")
		becomes(" a player, come here", " iron, come here")
		becomes("gold, iron, and the: hm", "gold, iron, and the: hm")
	end)
end)

describe("names of earlier runs", function()
	it("come from the accounts", function()
		local names = Names.new()
		names:read({iterate = function() return pairs({Ann = true, Bob = true}) end}, nil)
		names:meet("Cid")
		assert.are.equal("a player, a player, a player, Dan", names:hide("Ann, Bob, Cid, Dan"))
	end)

	it("come from the storage where accounts cannot be listed", function()
		local fields = {["optout:Zoe"] = "1"}
		local storage = {
			to_table = function() return {fields = fields} end,
			set_string = function(_, key, value) fields[key] = value end,
		}
		local first, second = Names.new(), Names.new()
		first:read({}, storage)
		first:meet("Ann")
		second:read({}, storage)
		assert.are.equal("a player, Zoe", second:hide("Ann, Zoe"))
	end)
end)
