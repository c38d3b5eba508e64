-- Records fights with entities, and right-clicks on them. The engine has no callbacks for all entities, so their
-- definitions are changed after all mods are loaded.

return function(recorder, enabled, fights)
	local core = recorder.core
	local bindings = recorder.bindings
	-- Entities whose death is recorded. Weak keys: entities come and go.
	local dead = setmetatable({}, {__mode = "k"})

	local function is_dead(entity)
		return type(entity.health) == "number" and entity.health <= 0
	end

	local punched = recorder:wrap("entity punch", function(entity, puncher, _, _, _, damage)
		dead[entity] = dead[entity] or is_dead(entity) or nil
		fights.punch(puncher, entity)
		fights.damage(entity, puncher, type(damage) == "number" and math.max(damage, 0) or 0, "punch")
	end)

	local killed = recorder:wrap("entity death", function(entity, killer)
		if killer and not dead[entity] then
			dead[entity] = true
			fights.death(entity, killer, "punch")
		end
	end)

	-- Mobs of the mob frameworks have a health of their own, and the punch takes it.
	local died_of_punch = recorder.guard.wrap("finding out whether a punch killed", function(entity, puncher)
		if is_dead(entity) then
			killed(entity, puncher)
		end
	end)

	-- The mob frameworks tell the cause of a death: mcl_mobs as an argument of on_die, mobs_redo in cause_of_death.
	local died = recorder.guard.wrap("finding the killer of an entity", function(entity, cause)
		cause = type(cause) == "table" and cause or entity.cause_of_death
		if type(cause) == "table" and (type(entity.health) ~= "number" or entity.health <= 0) then
			killed(entity, cause.puncher)
		end
	end)

	local function wrap_punch(prototype)
		local original = prototype.on_punch
		local function finish(self, puncher, ...)
			died_of_punch(self, puncher)
			return ...
		end
		prototype.on_punch = function(self, puncher, ...)
			punched(self, puncher, ...)
			if original then
				return finish(self, puncher, original(self, puncher, ...))
			end
		end
	end

	local function wrap_death(prototype)
		local on_death, on_die, on_deactivate = prototype.on_death, prototype.on_die, prototype.on_deactivate
		prototype.on_death = function(self, killer, ...)
			killed(self, killer)
			if on_death then
				return on_death(self, killer, ...)
			end
		end
		-- Adding on_die to a mob of mobs_redo removes its death animation: wrap it only if it exists.
		if on_die then
			prototype.on_die = function(self, pos, cause, ...)
				died(self, cause)
				return on_die(self, pos, cause, ...)
			end
		end
		prototype.on_deactivate = function(self, ...)
			died(self)
			if on_deactivate then
				return on_deactivate(self, ...)
			end
		end
	end

	-- What both sides remember of a right-click.
	local clicked = recorder:wrap("right-click", function(object, clicker)
		local name = recorder:player_name(clicker)
		if not name or not object then
			return
		end
		local item = clicker:get_wielded_item():get_name()
		item = item ~= "" and item or nil
		local target = recorder.subject(object)
		local event = recorder:deed("interact", name, clicker:get_pos(), {target = target, item = item})
		recorder:fold_event(event, target or "", "count", 1)
		local entity = object:get_luaentity()
		local agent_id = entity and bindings:agent_of(entity)
		if agent_id then
			event = recorder:memory("interact", agent_id, name, object:get_pos(), {item = item})
			recorder:fold_event(event, name, "count", 1)
		end
	end)

	-- An entity without on_rightclick does nothing on a right-click.
	local function wrap_rightclick(prototype)
		local original = prototype.on_rightclick
		if original then
			prototype.on_rightclick = function(self, clicker, ...)
				clicked(self.object, clicker)
				return original(self, clicker, ...)
			end
		end
	end

	if enabled.interact and core.register_on_rightclickplayer then
		core.register_on_rightclickplayer(clicked)
	end

	core.register_on_mods_loaded(recorder.guard.wrap("wrapping entities", function()
		for name, prototype in pairs(core.registered_entities) do
			-- Names with __ are the engine's own entities, items and falling nodes: punching one picks it up.
			if name:sub(1, 2) ~= "__" then
				bindings:restore_in(prototype)
				if enabled.punch or enabled.damage or enabled.kill then
					wrap_punch(prototype)
				end
				if enabled.kill or enabled.death then
					wrap_death(prototype)
				end
				if enabled.interact then
					wrap_rightclick(prototype)
				end
			end
		end
	end))
end
