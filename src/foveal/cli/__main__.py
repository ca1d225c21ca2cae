from foveal.cli.app import main

main()
