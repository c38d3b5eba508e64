-- A baker in front of trees and a lake. What a player says to him is a search in his memories.

local NAME, AGENT = "Baker", "npc:baker"

core.register_entity("scene:baker", {
	initial_properties = {
		visual = "mesh",
		mesh = "character.b3d",
		textures = {"character.png^[colorize:#a0522d:70"},
		collisionbox = {-0.3, 0, -0.3, 0.3, 1.7, 0.3},
		physical = true,
		nametag = NAME,
		nametag_color = "#ffe9a8",
	},
	on_activate = function(self)
		self.object:set_animation({x = 0, y = 79}, 30)
		self.object:set_armor_groups({immortal = 1})
	end,
})

core.register_on_chat_message(function(_, message)
	local question = message:match("^" .. NAME .. ", (.+)$")
	if question then
		lorestream.get(AGENT, question, 1, nil, function(memories, err)
			local best = memories[1]
			core.after(0.5, core.chat_send_all, ("<%s> %s"):format(NAME, best and best.text or err or "I don't know."))
		end)
	end
end)

-- Memories of some days; two of them answer the questions of the screenshot.
function scene_memories()
	for _, text in ipairs({
		"Nora the miller told me that the flour is sold out until Friday.",
		"A stranger paid for two loaves with a gold coin and gave no name.",
		"I found blueberries behind the old oak at the lake.",
		"The oven smoked all morning, I have to clean the chimney.",
		"Wolves were heard in the hills last night.",
		"I sold twelve rolls to the guard at the gate.",
	}) do
		lorestream.put(AGENT, text)
	end
end

-- Builds the scene around the ground at pos: he stands on grass, with trees behind him and his stall beside him.
function scene_build(pos)
	local function set(x, y, z, name, param2)
		core.set_node(vector.add(pos, {x = x, y = y, z = z}), {name = name, param2 = param2})
	end
	for x = -14, 14 do
		for z = -8, 24 do
			for y = -3, 12 do
				local ground = y < -1 and "default:stone" or y == -1 and "default:dirt" or "default:dirt_with_grass"
				set(x, y, z, y > 0 and "air" or ground)
			end
			if x > 4 and z > 6 and (x - 11) ^ 2 + (z - 14) ^ 2 < 42 then
				set(x, 0, z, "default:water_source")
			end
		end
	end
	for x = -3, -1 do
		set(x, 1, 5, "default:wood")
		set(x, 4, 5, "stairs:slab_wood")
		set(x, 4, 4, "stairs:slab_wood")
	end
	for _, x in ipairs({-3, -1}) do
		set(x, 2, 5, "default:fence_wood")
		set(x, 3, 5, "default:fence_wood")
	end
	set(-2, 2, 5, "default:chest", 0)
	set(-4, 1, 6, "default:furnace_active", 2)
	for i, flower in ipairs({"flowers:rose", "flowers:tulip", "flowers:dandelion_yellow", "flowers:geranium"}) do
		set(3 + i % 3, 1, 3 + i, flower)
		set(-6 - i % 2, 1, 2 + 2 * i, flower)
	end
	for _, place in ipairs({{-9, 12}, {-4, 17}, {3, 19}, {-13, 20}, {6, 6}, {13, 23}}) do
		default.grow_new_apple_tree(vector.add(pos, {x = place[1], y = 1, z = place[2]}))
	end
	core.add_entity(vector.add(pos, {x = 1, y = 0.5, z = 5}), "scene:baker"):set_yaw(math.pi)
end
