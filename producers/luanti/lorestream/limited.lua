-- Log lines that may come in floods. Of each kind, the first line is written at once, and then at most one line a
-- minute, with the number of those that were left out.

local PAUSE_US = 60e6
-- With more kinds than this, further ones are counted as one kind.
local MAX_KINDS = 64

-- log(level, text), micros(). Returns {say(level, kind, text), step(now_us)}.
return function(log, micros)
	local limited, kinds, count = {}, {}, 0

	-- kind: what the lines have in common.
	function limited.say(level, kind, text)
		if not kinds[kind] and count >= MAX_KINDS then
			kind = "others"
		end
		local entry = kinds[kind]
		if entry then
			entry.level, entry.text, entry.more = level, text, entry.more + 1
			return
		end
		kinds[kind] = {said_us = micros(), more = 0}
		count = count + 1
		log(level, text)
	end

	-- Writes the lines that are due. Call it once in each server step, and with math.huge at the end.
	function limited.step(now_us)
		if count == 0 then
			return
		end
		for kind, entry in pairs(kinds) do
			if now_us - entry.said_us >= PAUSE_US then
				if entry.more > 0 then
					log(entry.level, ("%s (the last of %d like it within a minute)"):format(entry.text, entry.more))
					entry.said_us, entry.more = now_us, 0
				else
					kinds[kind], count = nil, count - 1
				end
			end
		end
	end

	return limited
end
