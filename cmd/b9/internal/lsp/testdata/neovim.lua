-- Drives `b9 lsp` from a real editor, and prints what it answers. It ends with status 1
-- where an answer does not come.
local function say(...) io.stdout:write(table.concat({ ... }), "\n") end
local function check(ok, what)
  if not ok then
    say("no answer: ", what)
    vim.cmd("cquit 1")
  end
end

local client = vim.lsp.start_client({ name = "b9", cmd = { vim.env.B9, "lsp" }, root_dir = vim.fn.getcwd() })
check(client, "start")
vim.lsp.buf_attach_client(0, client)
check(vim.wait(60000, function() return vim.lsp.buf_get_clients(0)[client] ~= nil and vim.lsp.get_client_by_id(client).initialized end), "initialize")

local function ask(method, line, character)
  local params = { textDocument = { uri = vim.uri_from_bufnr(0) }, position = { line = line, character = character } }
  local answers = vim.lsp.buf_request_sync(0, method, params, 60000)
  check(answers and answers[client] and not answers[client].error, method)
  return answers[client].result
end

say("hover: ", (ask("textDocument/hover", 2, 1).contents.value:gsub(".*\n", "")))
local place = ask("textDocument/definition", 2, 1)
say("definition: ", place.uri:gsub(".*/", ""), ":", tostring(place.range.start.line + 1))
for _, item in ipairs(ask("textDocument/completion", 2, 2).items) do say("completion: ", item.label) end

vim.api.nvim_buf_set_lines(0, 0, -1, false, { "def f():", "    unused = 2", "x=1" })
check(vim.wait(60000, function()
  for _, d in ipairs(vim.diagnostic.get(0)) do
    if d.message:find("nothing uses unused") then return true end
  end
end), "diagnostics")
say("diagnostic: nothing uses unused")
vim.lsp.buf.formatting_sync(nil, 60000)
local lines = vim.api.nvim_buf_get_lines(0, 0, -1, false)
say("layout: ", lines[#lines])
vim.cmd("qall!")
