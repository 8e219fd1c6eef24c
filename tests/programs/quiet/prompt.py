# cause:   a program asks its user, and the user thinks
# expect:  verdict=external pattern=- stdin=pipe
name = input("Your name: ")
print("Hello", name)
