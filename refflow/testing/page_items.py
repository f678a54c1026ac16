def page_tests(): pass
