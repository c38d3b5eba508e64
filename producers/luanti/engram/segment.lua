-- One file of the spool: JSON lines, and marks. The newest mark (#, then the number of the segment that follows, which
-- is its place in the queue) says that the lines above it are done.

local Segment = {MARK = "#"}

-- What is dropped first. Types that are not listed are worth keeping longest.
local VALUE = {dig = 1, place = 1, punch = 1, damage = 2, craft = 2, join = 2, leave = 2}
Segment.HIGHEST_VALUE = 3

-- write_json sorts the keys, and no key of an event sorts after "type".
function Segment.type_of(line)
	return line:match('"type" ?: ?"([^"]*)"}$') or "text"
end

function Segment.value_of(line)
	return VALUE[Segment.type_of(line)] or Segment.HIGHEST_VALUE
end

-- True when the line is in the file, nil when it could not be written.
function Segment.write(segment, line)
	local file = segment.file
	return file and file:write(line, "\n") and file:flush()
end

function Segment.close(segment)
	if segment.file then
		segment.file:close()
		segment.file = nil
	end
end

local function read_lines(path)
	local file = io.open(path, "rb")
	if not file then
		return {}, 0
	end
	local content = file:read("*a") or ""
	file:close()
	local lines, torn, place = {}, 0, nil
	for line in content:gmatch("[^\n]+") do
		-- A line that was cut off by a crash of the machine was never promised.
		if line:sub(1, 1) == Segment.MARK then
			lines, place = {}, tonumber(line:sub(2)) or place
		elseif line:find("^{.*}$") and not line:find("%z") then
			lines[#lines + 1] = line
		else
			torn = torn + 1
		end
	end
	return lines, torn, place
end

-- Counts what a segment holds.
function Segment.tally(segment, lines)
	segment.count, segment.bytes, segment.values = #lines, 0, {0, 0, 0}
	for _, line in ipairs(lines) do
		local value = Segment.value_of(line)
		segment.values[value] = segment.values[value] + 1
		segment.bytes = segment.bytes + #line + 1
	end
end

-- The segment that a file still holds, or nil, and the number of its broken lines.
function Segment.find(dir, name)
	local segment = {path = dir .. "/" .. name, saved = true, erase = name:find("%.erase$") ~= nil}
	local lines, bad, place = read_lines(segment.path)
	if #lines == 0 then
		os.remove(segment.path)
		return nil, bad
	end
	Segment.tally(segment, lines)
	local run, number = name:match("^(%d+%-%x+)%-(%d+)")
	segment.place = ("%s-%08d"):format(run, place or number)
	return segment, bad
end

-- Its lines, from memory or from the file.
function Segment.lines_of(segment)
	return segment.lines or (read_lines(segment.path))
end

-- Leaves these lines alone in the file.
function Segment.rewrite(segment, kept)
	local part = segment.path .. ".part"
	local file = io.open(part, "wb")
	-- If this fails the old file stays: a restart would send more than was promised, never less.
	if file then
		local written = file:write(table.concat(kept, "\n"), "\n")
		file:close()
		if written then
			os.rename(part, segment.path)
		end
	end
end

return Segment
