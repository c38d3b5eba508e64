-- Messages to admins (players with the privilege server): at once to those who are online, and to each one who joins
-- while the trouble lasts. They are told of lost events too.

local Notices = {}
Notices.__index = Notices

-- Those who are online are told of further losses at most this often.
local PAUSE_US = 60e6

-- core: the engine. S: the translator of the mod. losses: of losses.lua.
function Notices.new(core, S, losses)
	return setmetatable({core = core, S = S, losses = losses, warnings = {}, told = 0, told_us = -math.huge}, Notices)
end

-- Sends the message to an admin. Returns whether the player is one; others get nothing.
function Notices:send(name, text)
	local is_admin = self.core.check_player_privs(name, {server = true})
	if is_admin then
		self.core.chat_send_player(name, self.S("[Lorestream] @1", text))
	end
	return is_admin
end

function Notices:send_all(text)
	local sent = false
	for _, player in ipairs(self.core.get_connected_players()) do
		sent = self:send(player:get_player_name(), text) or sent
	end
	return sent
end

-- text: translated by S. Admins who join later get the last one about the same trouble too, until it is withdrawn.
function Notices:warn(about, text)
	self.warnings[about] = text
	self:send_all(text)
end

function Notices:withdraw(about)
	self.warnings[about] = nil
end

function Notices:of_losses()
	local losses = self.losses
	return self.S("@1 events were lost: @2. Their ids are in @3", tostring(losses.count), losses:reasons_text(),
		losses.path)
end

function Notices:greet(player)
	local name = player:get_player_name()
	for _, text in pairs(self.warnings) do
		self:send(name, text)
	end
	if self.losses.count > 0 and self:send(name, self:of_losses()) then
		self.losses:mark_told()
	end
end

-- Tells the admins who are online of new losses. Call it in each server step.
function Notices:step(now_us)
	local count = self.losses.count
	if count > self.told and now_us - self.told_us >= PAUSE_US then
		self.told = count
		if self:send_all(self:of_losses()) then
			self.told_us = now_us
			self.losses:mark_told()
		end
	end
end

return Notices
