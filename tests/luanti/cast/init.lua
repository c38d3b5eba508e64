-- What other mods bring into a world: a handler that swallows chat, a shop, and mobs that die as those of mobs_redo and
-- mcl_mobs do.

core.register_on_chat_message(function(_, message)
	return message:sub(1, 1) == "!"
end)

core.register_node("cast:shop", {
	on_receive_fields = function(_, _, _, sender)
		local inv = sender:get_inventory()
		if inv:contains_item("main", "default:gold_ingot 2") then
			inv:remove_item("main", "default:gold_ingot 2")
			inv:add_item("main", "default:apple 5")
		end
	end,
})

core.register_on_player_receive_fields(function(player, formname)
	if formname == "cast:trader" then
		player:get_inventory():remove_item("main", "default:apple 1")
		player:get_inventory():add_item("main", "default:gold_ingot")
		return true
	end
end)

-- As in mcl_mobs: the cause of a death is passed to on_die.
core.register_entity("cast:cow", {
	_cmi_is_mob = true,
	health = 2,
	on_punch = function(self, puncher)
		self.health = self.health - 1
		if self.health <= 0 then
			self:on_die(self.object:get_pos(), {type = "punch", puncher = puncher})
			self.object:remove()
		end
	end,
	on_die = function(self)
		self.died = true
	end,
})

-- As in mobs_redo: no on_die, the cause is a field, and the mob is removed later.
core.register_entity("cast:sheep", {
	_cmi_is_mob = true,
	health = 1,
	on_punch = function(self, puncher)
		self.health = 0
		self.cause_of_death = {type = "punch", puncher = puncher}
		self.object:remove()
	end,
})

-- As in mcl_mobs without on_die: no trace of the cause.
core.register_entity("cast:pig", {
	health = 1,
	on_punch = function(self)
		self.health = 0
		self.object:remove()
	end,
})

core.register_entity("cast:guard", {
	initial_properties = {hp_max = 20},
	on_rightclick = function() end,
	on_activate = function(self, staticdata)
		self.own = staticdata
	end,
	get_staticdata = function(self)
		return self.own
	end,
})
